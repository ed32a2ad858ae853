import java.util.TreeMap;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/** How many requests of each kind the broker has answered, one a line: `java RequestCounts.java PORT`. */
public class RequestCounts {
    public static void main(String[] arguments) throws Exception {
        var address = "service:jmx:rmi:///jndi/rmi://127.0.0.1:" + arguments[0] + "/jmxrmi";
        var counts = new TreeMap<String, Long>();
        try (var connector = JMXConnectorFactory.connect(new JMXServiceURL(address))) {
            MBeanServerConnection broker = connector.getMBeanServerConnection();
            var name = new ObjectName("kafka.network:type=RequestMetrics,name=RequestsPerSec,*");
            for (ObjectName found : broker.queryNames(name, null)) {
                // One for each version of a request that was ever asked in.
                var count = (Long) broker.getAttribute(found, "Count");
                counts.merge(found.getKeyProperty("request"), count, Long::sum);
            }
        }
        counts.forEach((request, count) -> System.out.println(request + " " + count));
    }
}
