// Reads ServiceMonitors as a JSON list from standard input and prints what is wrong with each, one problem a line.
// The validators know the types of fields and which are needed; fields that do not exist pass, as they do in a cluster.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const tools = createRequire(process.argv[2] + "/package.json");
const modules = tools.resolve.paths("@kubernetes-models/prometheus-operator")[0];
const path = `${modules}/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor.js`;
const { ServiceMonitor } = await import(pathToFileURL(path));

for (const monitor of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new ServiceMonitor(monitor).validate();
  } catch (error) {
    console.log(`${monitor.metadata?.name}: ${error.message}`);
  }
}
