// The node's page: sign in first, then configuration, chat (in private mode only) and status. Plain DOM, text only as text.
import { connect, problemText } from "/api.js";
import { chatPage, forgetTalk } from "/chat.js";

const STATUS_INTERVAL_MS = 5000;
const MODELS_SHOWN_MAX = 24;
const api = connect(showSignIn);
const state = { status: null, timer: 0, told: "" };
const pages = { configuration: configurationPage, chat: chatPage, status: statusPage };

const byId = (id) => document.getElementById(id);
const lines = (text) => text.split(/[\n,]/).map((line) => line.trim()).filter(Boolean);

function show(name, into) {
  into.replaceChildren(byId(name).content.cloneNode(true));
}

function tell(form, problem) {
  const place = form.querySelector(".problem");
  place.hidden = !problem;
  place.textContent = problem ? problemText(problem) : "";
}

function notice(text) {
  byId("notice").hidden = !text;
  byId("notice").textContent = text || "";
}

// The root beside the templates, which stay where they are.
const root = document.createElement("div");
document.body.append(root);

function showSignIn() {
  clearInterval(state.timer);
  state.status = null;
  forgetTalk();
  document.title = "Agent Mesh node";
  show("sign-in", root);
  const form = byId("sign-in-form");
  form.key.focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    tell(form, await signIn(form.key.value));
  });
}

// Answers why not.
async function signIn(key) {
  const problem = await api.signIn(key);
  if (!problem) await start();
  return problem;
}

async function start() {
  show("shell", root);
  byId("sign-out").addEventListener("click", async () => {
    await api.call("DELETE", "/api/v1/session");
    showSignIn();
  });
  if (await refresh()) await route();
}

// Reads the status anew, for the header and for what may be shown.
async function refresh() {
  const { body } = await api.call("GET", "/api/v1/status");
  if (!body) return false;
  state.status = body;
  document.title = `${body.name} · Agent Mesh node`;
  byId("node-name").textContent = body.name;
  byId("node-id").textContent = body.node_id;
  byId("mode").textContent = body.mode;
  byId("mesh").className = body.mesh_connected ? "good" : "bad";
  byId("mesh").textContent = body.mesh_connected ? "connected" : "no connection to the mesh";
  byId("chat-link").hidden = !body.chat.offered;
  return true;
}

async function route() {
  clearInterval(state.timer);
  let name = location.hash.slice(1);
  if (!(name in pages)) name = "configuration";
  if (name === "chat" && !state.status.chat.offered) return leaveChat(state.status.chat.reason);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  show(name, byId("page"));
  await pages[name]({ api, tell, leaveChat });
}

// Out of private mode there is no chat: back to where the mode is chosen.
async function leaveChat(reason) {
  await refresh();
  // Said once the page that it leads to is shown.
  state.told = reason ? `No chat now: ${reason}.` : "";
  if (location.hash !== "#configuration") location.hash = "#configuration";
  else await arrive();
}

async function configurationPage() {
  const form = byId("configuration-form");
  const { body, problem } = await api.call("GET", "/api/v1/agent-node/configuration");
  if (!body) return tell(form, problem);
  fill(form, body);
  form.addEventListener("input", () => {
    byId("saved").textContent = "not saved yet";
    byId("sharing").disabled = form.mode.value !== "shared";
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await api.call("POST", "/api/v1/agent-node/configuration", wanted(form));
    tell(form, answer.problem);
    if (!answer.body) return;
    fill(form, answer.body);
    byId("saved").textContent = "saved";
    await refresh();
    notice("");
  });
  await providerForm();
}

function fill(form, known) {
  form.mode.value = known.mode;
  for (const name of ["billable_account_uid", "billable_account_type", "billable_account_handle"]) {
    form[name].value = known[name] ?? "";
  }
  for (const name of ["tenants", "users", "agents"]) form[name].value = known.sharing[name].join("\n");
  form.invocations_max.value = known.sharing.invocations_max ?? "";
  byId("sharing").disabled = known.mode !== "shared";
}

function wanted(form) {
  const sharing = { tenants: lines(form.tenants.value), users: lines(form.users.value), agents: lines(form.agents.value) };
  if (form.invocations_max.value !== "") sharing.invocations_max = Number(form.invocations_max.value);
  const account = (name) => form[name].value.trim() || null;
  return {
    mode: form.mode.value,
    billable_account_uid: account("billable_account_uid"),
    billable_account_type: account("billable_account_type"),
    billable_account_handle: account("billable_account_handle"),
    sharing,
  };
}

async function providerForm() {
  const form = byId("provider-form");
  const { body, problem } = await api.call("GET", "/api/v1/configure/inference/provider");
  if (!body) return tell(form, problem);
  showProvider(form, body);
  form.addEventListener("change", async () => {
    const answer = await api.call("PUT", "/api/v1/configure/inference/provider", { provider: form.provider.value });
    tell(form, answer.problem);
    showProvider(form, answer.body ?? body);
    await showModels();
  });
  await showModels();
}

function showProvider(form, known) {
  form.provider.value = known.provider;
  for (const choice of form.querySelectorAll("[name=provider]")) choice.disabled = !known.writable;
  byId("fixed").hidden = known.writable;
  byId("fixed").textContent = `Fixed to “${known.override}” by AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE where this node was started.`;
  const own = known.local;
  byId("endpoint").textContent = own.configured
    ? `(${own.base_url}${own.model ? `, ${own.model}` : ""})`
    : "(none yet: start the node with MESH_NODE__INFERENCE__BASE_URL)";
}

async function showModels() {
  const { body } = await api.call("GET", "/api/v1/configure/inference/models");
  if (!body) return;
  const items = body.items.slice(0, MODELS_SHOWN_MAX).map((model) => {
    const item = document.createElement("li");
    item.textContent = model.available ? model.name : `${model.name} (not available)`;
    item.className = model.available ? "" : "off";
    return item;
  });
  const hidden = body.items.length - items.length;
  if (hidden > 0) items.push(cell("li", `and ${hidden} more`, "off"));
  byId("models").replaceChildren(...items);
  const hints = {
    node: "The node's own endpoint is asked for whatever model an agent names, or the one that its configuration names.",
    centre: "As the mesh lists them.",
    fallback: `Well-known names, because the mesh gave no list: ${body.reason ?? ""}`,
  };
  byId("models-hint").textContent = hints[body.source] ?? "";
}

async function statusPage() {
  const draw = async () => {
    if (document.hidden || !(await refresh()) || !byId("facts")) return;
    drawStatus(state.status);
  };
  drawStatus(state.status);
  clearInterval(state.timer);
  state.timer = setInterval(draw, STATUS_INTERVAL_MS);
}

function drawStatus(status) {
  const facts = {
    Node: `${status.name} (${status.node_id})`,
    Owner: status.owner ?? "nobody in particular: development mode",
    Mode: status.mode + (status.draining ? ", draining: it takes nothing new" : ""),
    Mesh: status.mesh_connected ? "connected" : "not connected; it tries again by itself",
    Work: `${status.running} of ${status.slots} slots in use`,
    Models: status.provider === "mesh" ? "the mesh's" : "this node's own endpoint",
    Version: status.version,
  };
  const cells = Object.entries(facts).flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]);
  byId("facts").replaceChildren(...cells);
  const words = { ready: "good", failed: "bad", starting: "wait", stopping: "wait" };
  const rows = status.replicas.map((replica) => {
    const row = document.createElement("tr");
    const held = cell("td", "");
    held.append(cell("span", replica.state, words[replica.state]));
    if (replica.detail) held.append(cell("span", replica.detail, "from-left"));
    row.append(cell("td", replica.agent), cell("td", replica.tenant), cell("td", String(replica.version)), held, cell("td", String(replica.running)));
    return row;
  });
  byId("replicas").replaceChildren(...rows);
  byId("no-replicas").hidden = rows.length > 0;
}

function cell(kind, text, className = "") {
  const element = document.createElement(kind);
  element.textContent = text;
  element.className = className;
  return element;
}

// A link of the node's own start signs in by itself; the key goes out of the address at once. Answers whether it is one.
async function followLink() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) return false;
  history.replaceState(null, "", "/");
  const problem = await signIn(key);
  if (problem) {
    showSignIn();
    tell(byId("sign-in-form"), problem);
  }
  return true;
}

async function arrive() {
  notice(state.told);
  state.told = "";
  if (await refresh()) await route();
  if (!byId("page")?.contains(document.activeElement)) byId("page")?.focus();
}

window.addEventListener("hashchange", async () => {
  if (!(await followLink()) && state.status) await arrive();
});

// The mode may have been changed elsewhere meanwhile.
document.addEventListener("visibilitychange", async () => {
  if (document.hidden || !state.status || !(await refresh())) return;
  if (location.hash === "#chat" && !state.status.chat.offered) await leaveChat(state.status.chat.reason);
});

if (!(await followLink())) {
  if (await api.isSignedIn()) await start();
  else showSignIn();
}
