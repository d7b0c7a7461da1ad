// A program as Java teams have them: Apache Curator's service discovery, which reads what we register in the layout `curator`, and
// registers what we read. It is told what to do on its standard input, a command per line, and answers each with a line.
//
// Arguments: the servers, with commas; the base path.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;

public class Witness {
    public static void main(String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[0], new RetryNTimes(100, 100));
        client.start();
        client.blockUntilConnected();
        ServiceDiscovery<Object> discovery =
            ServiceDiscoveryBuilder.builder(Object.class).client(client).basePath(arguments[1]).build();
        discovery.start();
        Map<String, ServiceInstance<Object>> ours = new HashMap<>();
        Map<String, ServiceProvider<Object>> providers = new HashMap<>();
        say("ready");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "list": {
                    // As read from ZooKeeper now.
                    StringBuilder answer = new StringBuilder();
                    List<ServiceInstance<Object>> all = new java.util.ArrayList<>(discovery.queryForInstances(words[1]));
                    all.sort(Comparator.comparing(ServiceInstance::getId));
                    for (ServiceInstance<Object> one : all) {
                        Object payload = one.getPayload();
                        Object told = payload instanceof Map ? tags((Map<?, ?>) payload) : payload;
                        answer.append(String.format("%s=%s:%d/%s/%s/%s ", one.getId(), one.getAddress(), one.getPort(),
                            one.getServiceType(), one.isEnabled(), told));
                    }
                    say(answer.toString().trim());
                    break;
                }
                case "names":
                    say(String.join(" ", new java.util.TreeSet<>(discovery.queryForNames())));
                    break;
                case "pick": {
                    // As Curator's own cache has it, which follows by watches.
                    ServiceProvider<Object> provider = providers.get(words[1]);
                    if (provider == null) {
                        provider = discovery.serviceProviderBuilder().serviceName(words[1]).build();
                        provider.start();
                        providers.put(words[1], provider);
                    }
                    Map<String, Integer> ports = new TreeMap<>();
                    for (ServiceInstance<Object> one : provider.getAllInstances()) {
                        ports.put(one.getId(), one.getPort());
                    }
                    say(ports.toString());
                    break;
                }
                case "register": {
                    ServiceInstance<Object> instance = ServiceInstance.builder()
                        .name(words[1]).id(words[2]).address(words[3]).port(Integer.parseInt(words[4])).build();
                    discovery.registerService(instance);
                    ours.put(words[1] + "/" + words[2], instance);
                    say("done");
                    break;
                }
                case "unregister":
                    discovery.unregisterService(ours.remove(words[1] + "/" + words[2]));
                    say("done");
                    break;
                default:
                    say("unknown: " + line);
            }
        }
        discovery.close();
        client.close();
    }

    private static Object tags(Map<?, ?> payload) {
        return payload.get("Tags");
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
