// The node's API, as its page asks it. Whoever is not signed in any more is led to the sign-in.

export function problemText(problem) {
  return problem.next ? `${problem.title}: ${problem.detail}\n${problem.next}` : `${problem.title}: ${problem.detail}`;
}

const unreachable = { title: "The node does not answer", detail: "it may have stopped", next: "start it with `mesh node`, then try again" };

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { title: "Something failed", detail: `status ${response.status}` };
  }
}

export function connect(onSignedOut) {
  // Answers {response} or {problem}.
  async function ask(method, path, body, signal) {
    const options = { method, signal, headers: body === undefined ? {} : { "content-type": "application/json" } };
    if (body !== undefined) options.body = JSON.stringify(body);
    let response;
    try {
      response = await fetch(path, options);
    } catch (error) {
      return { problem: error.name === "AbortError" ? null : unreachable };
    }
    if (response.ok) return { response };
    return { problem: await problemOf(response), status: response.status };
  }

  // Answers {body} or {problem}.
  async function call(method, path, body) {
    const { response, problem, status } = await ask(method, path, body);
    if (status === 401) onSignedOut();
    if (!response) return { problem };
    return { body: response.status === 204 ? {} : await response.json() };
  }

  // Hands over each event of a streamed answer; answers the problem that kept it from starting or cut it.
  async function stream(path, body, signal, onEvent) {
    const { response, problem, status } = await ask("POST", path, body, signal);
    if (status === 401) onSignedOut();
    if (!response) return problem;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return null;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach((block) => read(block, onEvent));
      }
    } catch (error) {
      return error.name === "AbortError" ? null : unreachable;
    }
  }

  return {
    call,
    stream,
    signIn: async (key) => (await ask("POST", "/api/v1/session", { key: key.trim() })).problem,
    isSignedIn: async () => Boolean((await call("GET", "/api/v1/session")).body?.signed_in),
  };
}

function read(block, onEvent) {
  const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
  const data = field("data");
  if (data) onEvent(field("event"), JSON.parse(data));
}
