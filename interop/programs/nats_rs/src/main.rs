//! The module `service` of async-nats.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::service::{self, error, Request, ServiceExt, Verb};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use serde::{de::DeserializeOwned, Serialize};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(20);

fn text(wanted: &Value, key: &str) -> String {
    wanted[key].as_str().unwrap_or_default().to_string()
}

fn map(wanted: &Value, key: &str) -> Result<HashMap<String, String>, Failure> {
    Ok(serde_json::from_value(wanted[key].clone())?)
}

async fn echo(request: Request, unanswered: &str) -> Result<(), Failure> {
    if request.message.payload == unanswered.as_bytes() {
        return Ok(());
    }
    let mut headers = HeaderMap::new();
    if let Some(trace) = request
        .message
        .headers
        .as_ref()
        .and_then(|found| found.get("Trace"))
    {
        headers.insert("Traced", trace.clone());
    }
    let payload = request.message.payload.clone();
    Ok(request.respond_with_headers(Ok(payload), headers).await?)
}

async fn fail(request: Request, wanted: &Value) -> Result<(), Failure> {
    // Its errors have no payload, and the only failures are those that a handler reports.
    let code = wanted["code"].as_u64().unwrap_or_default() as usize;
    let (status, code) = match request.message.payload.as_ref() {
        b"expected" => (text(wanted, "text"), code),
        b"unicode" => (text(wanted, "unicode_text"), code),
        _ => ("the colour of the database".to_string(), 500),
    };
    Ok(request.respond(Err(error::Error { status, code })).await?)
}

async fn serve(client: Client, wanted: Value) -> Result<(), Failure> {
    let mut service = client
        .service_builder()
        .description(text(&wanted, "description"))
        .metadata(map(&wanted, "metadata")?)
        .start(text(&wanted, "name"), text(&wanted, "version"))
        .await?;
    let group = service.group(text(&wanted, "name"));
    let mut echoing = group
        .endpoint_builder()
        .name("echo")
        .metadata(map(&wanted, "endpoint_metadata")?)
        .add("echo")
        .await?;
    let mut failing = group
        .endpoint_builder()
        .name("fail")
        .queue_group(text(&wanted, "failing_queue_group"))
        .add("fail")
        .await?;
    let info = service.info().await;
    // A flush waits for nothing from the server; an answer does, and what was sent before it has arrived, too.
    let ping = format!("$SRV.{}.{}.{}", Verb::Ping, info.name, info.id);
    timeout(PATIENCE, client.request(ping, "".into())).await??;
    let ready = json!({"id": info.id, "versions": env!("INTEROP_VERSIONS")});
    println!("ready {ready}");
    let unanswered = text(&wanted, "unanswered");
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            Some(request) = echoing.next() => echo(request, &unanswered).await?,
            Some(request) = failing.next() => fail(request, &wanted).await?,
            line = commands.next_line() => {
                if line?.is_none() {
                    return Ok(());
                }
                service.reset().await;
                println!("done");
            }
        }
    }
}

/// It has no client for services; its types read their replies.
async fn collect<T>(
    client: &Client,
    verb: Verb,
    name: &str,
    id: &str,
    count: usize,
) -> Result<Value, Failure>
where
    T: DeserializeOwned + Serialize,
{
    let mut found = serde_json::Map::new();
    let targets = [
        ("all", format!("$SRV.{verb}"), count),
        ("name", format!("$SRV.{verb}.{name}"), count),
        ("id", format!("$SRV.{verb}.{name}.{id}"), 1),
    ];
    for (target, subject, count) in targets {
        let inbox = client.new_inbox();
        let mut subscription = client.subscribe(inbox.clone()).await?;
        client.publish_with_reply(subject, inbox, "".into()).await?;
        let mut replies = Vec::new();
        while replies.len() < count {
            let reply = timeout(PATIENCE, subscription.next())
                .await?
                .ok_or("the subscription ended")?;
            replies.push(serde_json::to_value(serde_json::from_slice::<T>(
                &reply.payload,
            )?)?);
        }
        subscription.unsubscribe().await?;
        found.insert(target.to_string(), replies.into());
    }
    Ok(found.into())
}

async fn discover(client: Client, name: &str, id: &str, count: usize) -> Result<(), Failure> {
    let found = json!({
        "PING": collect::<service::PingResponse>(&client, Verb::Ping, name, id, count).await?,
        "INFO": collect::<service::Info>(&client, Verb::Info, name, id, count).await?,
        "STATS": collect::<service::Stats>(&client, Verb::Stats, name, id, count).await?,
    });
    println!("{found}");
    Ok(())
}

async fn request(client: Client, wanted: Vec<[String; 3]>) -> Result<(), Failure> {
    let mut results = serde_json::Map::new();
    for [key, subject, payload] in wanted {
        let mut sent = HeaderMap::new();
        sent.insert("Trace", "a-1");
        let reply = timeout(
            PATIENCE,
            client.request_with_headers(subject, sent, payload.into()),
        )
        .await??;
        let headers = reply.headers.unwrap_or_default();
        let first = |name: &str| headers.get(name).map(|value| value.as_str());
        let error = first(service::NATS_SERVICE_ERROR)
            .map(|text| json!({"code": first(service::NATS_SERVICE_ERROR_CODE), "text": text}));
        let data = std::str::from_utf8(&reply.payload)?;
        results.insert(
            key,
            json!({"data": data, "traced": first("Traced"), "error": error}),
        );
    }
    println!("{}", Value::from(results));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = async_nats::connect(arguments[1]).await?;
    match arguments[..] {
        ["serve", _, contract] => serve(client, serde_json::from_str(contract)?).await,
        ["discover", _, name, id, count] => discover(client, name, id, count.parse()?).await,
        ["request", _, requests] => request(client, serde_json::from_str(requests)?).await,
        _ => Err(format!("{arguments:?}").into()),
    }
}
