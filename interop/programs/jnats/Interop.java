// The package `io.nats.service` of jnats.

import static io.nats.client.support.JsonValueUtils.arrayBuilder;
import static io.nats.client.support.JsonValueUtils.mapBuilder;
import static io.nats.client.support.JsonValueUtils.readInteger;
import static io.nats.client.support.JsonValueUtils.readString;
import static io.nats.client.support.JsonValueUtils.readStringStringMap;
import static java.nio.charset.StandardCharsets.UTF_8;

import io.nats.client.Connection;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.impl.Headers;
import io.nats.client.support.JsonParser;
import io.nats.client.support.JsonSerializable;
import io.nats.client.support.JsonValue;
import io.nats.service.Discovery;
import io.nats.service.Group;
import io.nats.service.Service;
import io.nats.service.ServiceEndpoint;
import io.nats.service.ServiceMessage;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.List;

final class Interop {
  private static final Duration PATIENCE = Duration.ofSeconds(20);
  private static final PrintStream OUT = new PrintStream(System.out, true, UTF_8);

  static void serve(Connection connection, JsonValue wanted) throws Exception {
    String name = readString(wanted, "name");
    String unanswered = readString(wanted, "unanswered");
    Group group = new Group(name);
    ServiceEndpoint echo =
        ServiceEndpoint.builder()
            .group(group)
            .endpointName("echo")
            .endpointMetadata(readStringStringMap(wanted, "endpoint_metadata"))
            .handler(
                request -> {
                  if (text(request).equals(unanswered)) {
                    return;
                  }
                  String trace = first(request.getHeaders(), "Trace");
                  if (trace == null) {
                    request.respond(connection, request.getData());
                  } else {
                    request.respond(connection, request.getData(), new Headers().put("Traced", trace));
                  }
                })
            .build();
    ServiceEndpoint fail =
        ServiceEndpoint.builder()
            .group(group)
            .endpointName("fail")
            .endpointQueueGroup(readString(wanted, "failing_queue_group"))
            .handler(
                request -> {
                  String key =
                      switch (text(request)) {
                        case "expected" -> "text";
                        case "unicode" -> "unicode_text";
                        default -> throw new IllegalStateException("the colour of the database");
                      };
                  // Its errors have no payload.
                  request.respondStandardError(connection, readString(wanted, key), readInteger(wanted, "code", 0));
                })
            .build();
    Service service =
        Service.builder()
            .connection(connection)
            .name(name)
            .version(readString(wanted, "version"))
            .description(readString(wanted, "description"))
            .metadata(readStringStringMap(wanted, "metadata"))
            .addServiceEndpoint(echo)
            .addServiceEndpoint(fail)
            .build();
    service.startService();
    connection.flush(PATIENCE);
    String versions = "jnats " + Nats.CLIENT_VERSION + ", Java " + System.getProperty("java.version");
    OUT.println("ready " + mapBuilder().put("id", service.getId()).put("versions", versions).toJson());
    BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    for (String line = commands.readLine(); line != null; line = commands.readLine()) {
      service.reset();
      OUT.println("done");
    }
  }

  static void discover(Connection connection, String name, String id, int count) {
    Discovery discovery = new Discovery(connection, PATIENCE.toMillis(), count);
    OUT.println(
        mapBuilder()
            .put("PING", replies(discovery.ping(), discovery.ping(name), discovery.ping(name, id)))
            .put("INFO", replies(discovery.info(), discovery.info(name), discovery.info(name, id)))
            .put("STATS", replies(discovery.stats(), discovery.stats(name), discovery.stats(name, id)))
            .toJson());
  }

  static void request(Connection connection, JsonValue wanted) throws Exception {
    var results = mapBuilder();
    for (JsonValue each : wanted.array) {
      Headers trace = new Headers().put("Trace", "a-1");
      String subject = each.array.get(1).string;
      Message reply = connection.request(subject, trace, each.array.get(2).string.getBytes(UTF_8), PATIENCE);
      if (reply == null) {
        throw new IllegalStateException("no answer from " + subject);
      }
      var result = mapBuilder().put("data", new String(reply.getData(), UTF_8));
      result.put("traced", first(reply.getHeaders(), "Traced"));
      String text = first(reply.getHeaders(), ServiceMessage.NATS_SERVICE_ERROR);
      if (text != null) {
        String code = first(reply.getHeaders(), ServiceMessage.NATS_SERVICE_ERROR_CODE);
        result.put("error", mapBuilder().put("code", code).put("text", text));
      }
      results.put(each.array.get(0).string, result);
    }
    OUT.println(results.toJson());
  }

  private static JsonSerializable replies(
      List<? extends JsonSerializable> all, List<? extends JsonSerializable> ofName, JsonSerializable ofId) {
    return mapBuilder().put("all", array(all)).put("name", array(ofName)).put("id", array(List.of(ofId)));
  }

  private static JsonSerializable array(List<? extends JsonSerializable> replies) {
    var array = arrayBuilder();
    replies.forEach(array::add);
    return array;
  }

  private static String first(Headers headers, String name) {
    return headers == null ? null : headers.getFirst(name);
  }

  private static String text(ServiceMessage request) {
    return new String(request.getData(), UTF_8);
  }

  public static void main(String[] arguments) throws Exception {
    try (Connection connection = Nats.connect(arguments[1])) {
      switch (arguments[0]) {
        case "serve" -> serve(connection, JsonParser.parse(arguments[2]));
        case "discover" -> discover(connection, arguments[2], arguments[3], Integer.parseInt(arguments[4]));
        case "request" -> request(connection, JsonParser.parse(arguments[2]));
        default -> throw new IllegalArgumentException(arguments[0]);
      }
    }
  }
}
