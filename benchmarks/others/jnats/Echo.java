import io.nats.client.Connection;
import io.nats.client.Nats;
import io.nats.service.Service;
import io.nats.service.ServiceEndpoint;
import java.time.Duration;

/** The echo service of jnats. */
final class Echo {
  private static final Duration PATIENCE = Duration.ofSeconds(10);

  public static void main(String[] arguments) throws Exception {
    Connection connection = Nats.connect(arguments[0]);
    ServiceEndpoint echo =
        ServiceEndpoint.builder()
            .endpointName("echo")
            .endpointSubject(arguments[1])
            .handler(request -> request.respond(connection, request.getData()))
            .build();
    Service service =
        Service.builder()
            .connection(connection)
            .name("echo")
            .version("1.0.0")
            .addServiceEndpoint(echo)
            .build();
    var stopped = service.startService();
    connection.flush(PATIENCE);
    System.out.println("ready jnats " + Nats.CLIENT_VERSION + ", Java " + System.getProperty("java.version"));
    stopped.get();
  }
}
