// Chat with a model of this node's choice. What was said stays while the page is open.
import { problemText } from "/api.js";

let said = [];
let running = null;
const byId = (id) => document.getElementById(id);

export function forgetTalk() {
  running?.abort();
  said = [];
}

export async function chatPage({ api, tell, leaveChat }) {
  const form = byId("say");
  const pane = form.parentElement;
  said.forEach(draw);
  busy(Boolean(running));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void send();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      void send();
    }
    if (event.key === "Escape") running?.abort();
  });
  byId("stop").addEventListener("click", () => running?.abort());
  byId("anew").addEventListener("click", () => {
    forgetTalk();
    byId("talk").replaceChildren();
    tell(pane, null);
    byId("text").focus();
  });
  byId("text").focus();

  async function send() {
    const text = byId("text").value.trim();
    if (!text || running) return;
    byId("text").value = "";
    tell(pane, null);
    say({ role: "user", text });
    const messages = said.filter((turn) => !turn.failed).map((turn) => ({ role: turn.role, content: turn.text }));
    const answer = say({ role: "assistant", text: "" });
    const request = { messages };
    const model = byId("model").value.trim();
    if (model) request.model = model;
    running = new AbortController();
    const mine = running;
    busy(true);
    const problem = await api.stream("/api/v1/chat", request, mine.signal, (kind, data) => take(answer, kind, data));
    running = null;
    if (problem) fail(answer, problem);
    if (!answer.ended && !answer.problem) fail(answer, { title: mine.signal.aborted ? "Stopped" : "Cut off", detail: "the answer is not whole" });
    busy(false);
    if (answer.problem?.type === "node/not-private") await leaveChat(answer.problem.detail);
  }

  const { body } = await api.call("GET", "/api/v1/configure/inference/models");
  const names = (body?.items ?? []).map((model) => {
    const option = document.createElement("option");
    option.value = model.name;
    return option;
  });
  byId("model-names")?.replaceChildren(...names);
}

function busy(is) {
  const send = byId("send");
  if (!send) return;
  send.disabled = is;
  byId("stop").hidden = !is;
}

function take(answer, kind, data) {
  if (kind === "token") answer.text += data.text;
  // Another try starts: what came before is void.
  if (kind === "reset") answer.text = "";
  if (kind === "done") Object.assign(answer, { ended: true, text: data.text, model: data.model, provider: data.provider, usage: data.usage });
  if (kind === "failed") return fail(answer, data);
  paint(answer);
}

function fail(answer, problem) {
  // Half an answer is shown, and not said again to the model.
  Object.assign(answer, { failed: true, problem });
  paint(answer);
}

function say(turn) {
  said.push(turn);
  draw(turn);
  return turn;
}

function draw(turn) {
  const item = document.createElement("li");
  for (const name of ["by", "text"]) {
    const part = document.createElement("span");
    part.className = name;
    item.append(part);
  }
  turn.item = item;
  byId("talk").append(item);
  paint(turn);
}

function paint(turn) {
  const item = turn.item;
  if (!item?.isConnected) return;
  const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
  const counted = turn.usage ? ` · ${turn.usage.input_tokens} in, ${turn.usage.output_tokens} out` : "";
  const by = turn.model ? `${turn.model} by ${turn.provider}${counted}` : turn.ended || turn.failed ? "model" : "…";
  item.className = turn.failed ? "failed" : turn.role;
  item.firstChild.textContent = turn.role === "user" ? "you" : by;
  item.lastChild.textContent = turn.problem ? [turn.text, problemText(turn.problem)].filter(Boolean).join("\n") : turn.text;
  if (atEnd) window.scrollTo(0, document.body.scrollHeight);
}
