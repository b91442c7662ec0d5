//! The echo service of async-nats.

use async_nats::service::ServiceExt;
use futures_util::StreamExt;

/// What Cargo chose of a package.
fn version(package: &str) -> String {
    let start = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = include_str!("../Cargo.lock").split_once(&start).unwrap();
    format!("{package} {}", rest.split('"').next().unwrap())
}

#[tokio::main]
async fn main() -> Result<(), async_nats::Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let client = async_nats::connect(&arguments[1]).await?;
    let service = client.service_builder().start("echo", "1.0.0").await?;
    let mut requests = service
        .endpoint_builder()
        .name("echo")
        .add(&arguments[2])
        .await?;
    // A flush waits for nothing from the server; an answer does, and what was sent before it has arrived, too.
    let ping = format!("$SRV.PING.echo.{}", service.info().await.id);
    client.request(ping, "".into()).await?;
    println!("ready {}, {}", version("async-nats"), version("tokio"));
    while let Some(request) = requests.next().await {
        request.respond(Ok(request.message.payload.clone())).await?;
    }
    Ok(())
}
