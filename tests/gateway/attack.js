// What a web page can send to another host of the same machine. Runs in a foreign page; tells what came back of it.
const [target, token, done] = arguments;
const entry = {space: "board", recipients: ["me"], content: {text: "from a web page"}};
const json = JSON.stringify(entry);

// A form in a frame of its own. With the type text/plain, name and value make up any body.
function form(type, fields) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.name = type;
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: target + "/v1/put?by=form", enctype: type, target: frame.name});
    for (const [name, value] of fields) {
      const input = document.createElement("input");
      Object.assign(input, {name, value});
      form.append(input);
    }
    document.body.append(form);
    frame.addEventListener("load", () => resolve("sent"));
    form.submit();
  });
}

const fetched = (path, options) => fetch(target + path, options).then(
  (answer) => answer.type === "opaque" ? "sent" : `read ${answer.status}`,
  () => "refused",
);

function element(name, attributes) {
  return new Promise((resolve) => {
    const element = document.createElement(name);
    element.addEventListener("load", () => resolve("loaded"));
    element.addEventListener("error", () => resolve("refused"));
    Object.assign(element, attributes);
    document.body.append(element);
  });
}

function stream() {
  return new Promise((resolve) => {
    const source = new EventSource(target + "/v1/changes?space=board");
    source.onopen = () => { source.close(); resolve("open"); };
    source.onerror = () => { source.close(); resolve("refused"); };
  });
}

function socket() {
  return new Promise((resolve) => {
    const socket = new WebSocket(target.replace("http:", "ws:") + "/v1/changes?space=board");
    socket.onopen = () => { socket.close(); resolve("open"); };
    socket.onerror = () => resolve("refused");
  });
}

const authorized = {Authorization: "Bearer " + token};
const attacks = {
  form: () => form("application/x-www-form-urlencoded", Object.entries({space: "board", content: "x"})),
  "text form": () => form("text/plain", [[json.slice(0, -1) + ',"', '":1}']]),
  "multipart form": () => form("multipart/form-data", [["space", "board"]]),
  "simple post": () => fetched("/v1/put?by=simple", {method: "POST", mode: "no-cors", body: json, credentials: "include"}),
  "post with preflight": () => fetched("/v1/put?by=preflight", {
    method: "POST", body: json, headers: {"Content-Type": "application/json"},
  }),
  "post with a stolen token": () => fetched("/v1/put?by=token", {
    method: "POST", body: json, headers: {"Content-Type": "application/json", ...authorized},
  }),
  "get with a stolen token": () => fetched("/v1/get?space=board", {headers: authorized}),
  "delete": () => fetched("/v1/spaces/board", {method: "DELETE"}),
  "get unseen": () => fetched("/v1/status", {mode: "no-cors", credentials: "include"}),
  "health": () => fetched("/health", {}),
  "image": () => element("img", {src: target + "/v1/status?by=image"}),
  "script": () => element("script", {src: target + "/openapi.json"}),
  "stylesheet": () => element("link", {rel: "stylesheet", href: target + "/health"}),
  "frame": () => element("iframe", {src: target + "/page/0"}),
  "stream": stream,
  "socket": socket,
};
(async () => {
  const came = {};
  for (const [name, attack] of Object.entries(attacks)) came[name] = await attack();
  navigator.sendBeacon(target + "/v1/put?by=beacon", new Blob([json], {type: "text/plain"}));
  done(came);
})();
