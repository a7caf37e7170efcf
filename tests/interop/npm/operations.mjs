// Every operation that the npm package dicomweb-client has, against a server that is there.
//
//   node operations.mjs '{"root": …, "wado": …, "token": …, "study": …, "series": …,
//                         "instance": …, "upload": path of a DICOM file}'
//
// Prints one JSON object: operation → what came back, or {"error": status}.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The package wants a browser's XMLHttpRequest; of that just what it uses, over fetch.
globalThis.XMLHttpRequest = class {
  readyState = 0;
  status = 0;
  response = null;
  responseType = "";
  #headers = {};
  #answered = new Headers();

  open(method, url) {
    this.method = method.toUpperCase();
    this.url = url;
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  getResponseHeader(name) {
    return this.#answered.get(name);
  }

  getAllResponseHeaders() {
    return [...this.#answered].map(([name, value]) => `${name}: ${value}`).join("\r\n");
  }

  async send(body) {
    const answer = await fetch(this.url, { method: this.method, headers: this.#headers, body });
    this.#answered = answer.headers;
    this.status = answer.status;
    const content = await answer.arrayBuffer();
    this.response = content;
    if (this.responseType !== "arraybuffer") {
      const text = new TextDecoder().decode(content);
      this.response = this.responseType === "json" && text ? JSON.parse(text) : text;
    }
    this.readyState = 4;
    this.onreadystatechange();
    this.onloadend();
  }
};

const { api } = createRequire(import.meta.url)("dicomweb-client");
const given = JSON.parse(process.argv[2]);
const headers = { Authorization: `Bearer ${given.token}` };
const client = new api.DICOMwebClient({ url: given.root, headers, verbose: false });
const study = { studyInstanceUID: given.study };
const series = { ...study, seriesInstanceUID: given.series };
const instance = { ...series, sopInstanceUID: given.instance };
const sizes = (found) => [].concat(found).map((one) => one.byteLength);
const count = (found) => found.length;
const results = {};

async function run(name, operation, told) {
  try {
    results[name] = told(await operation());
  } catch (error) {
    results[name] = { error: error.status ?? String(error) };
  }
}

const upload = readFileSync(given.upload);
const datasets = [upload.buffer.slice(upload.byteOffset, upload.byteOffset + upload.length)];
await run("storeInstances", () => client.storeInstances({ datasets }), (text) => JSON.parse(text));

const queryParams = { limit: 10, fuzzymatching: true, includefield: "00081030" };
await run("searchForStudies", () => client.searchForStudies({ queryParams }), count);
await run("searchForSeries", () => client.searchForSeries(study), count);
await run("searchForInstances", () => client.searchForInstances(series), count);
await run("searchForNothing", () => client.searchForStudies({ queryParams: { PatientID: "0" } }), count);

await run("retrieveStudyMetadata", () => client.retrieveStudyMetadata(study), count);
await run("retrieveSeriesMetadata", () => client.retrieveSeriesMetadata(series), count);
let bulk = "";
await run(
  "retrieveInstanceMetadata",
  () => client.retrieveInstanceMetadata(instance),
  ([told]) => {
    bulk = told["7FE00010"].BulkDataURI;
    return told["00080018"].Value[0];
  },
);

const frames = { ...instance, frameNumbers: [1, 2] };
const stored = [{ mediaType: "application/octet-stream", transferSyntaxUID: "*" }];
await run("retrieveInstanceFrames", () => client.retrieveInstanceFrames(frames), sizes);
await run(
  "retrieveInstanceFramesAsStored",
  () => client.retrieveInstanceFrames({ ...frames, mediaTypes: stored }),
  sizes,
);
await run("retrieveBulkData", () => client.retrieveBulkData({ BulkDataURI: bulk }), sizes);

const first = { ...instance, frameNumbers: [1] };
const png = { mediaTypes: [{ mediaType: "image/png" }] };
const start = (found) => [...new Uint8Array([].concat(found)[0]).slice(0, 4)];
for (const [name, asked] of [
  ["retrieveInstanceRendered", instance],
  ["retrieveInstanceThumbnail", instance],
  ["retrieveInstanceFramesRendered", first],
  ["retrieveInstanceFramesThumbnail", first],
]) {
  await run(name, () => client[name]({ ...asked, ...png }), start);
}

await run("retrieveInstance", () => client.retrieveInstance(instance), sizes);
await run("retrieveSeries", () => client.retrieveSeries(series), sizes);
await run("retrieveStudy", () => client.retrieveStudy(study), sizes);

const uri = new api.DICOMwebClient({ url: given.root, wadoURIPrefix: "", headers });
uri.wadoURL = given.wado;
await run(
  "buildInstanceWadoURIUrl",
  async () => (await fetch(uri.buildInstanceWadoURIUrl(instance), { headers })).arrayBuffer(),
  sizes,
);

await run("absent", () => client.retrieveStudy({ studyInstanceUID: "1.2.3" }), sizes);
console.log(JSON.stringify(results));
