/** The socket against a mesh and a clock of the test's own. */
import { expect, it } from "vitest";
import { backoff } from "./connection";
import { type Push, Socket, type Wire, type World } from "./socket";

class Mesh implements World {
	wires: (Wire & { sent: Record<string, unknown>[]; isClosed: boolean })[] = [];
	time = 1_000;
	online = true;
	tickets = 0;
	refuses: "" | "signed out" | "down" | "silent" = "";
	/** Of the last ticket that was asked for. */
	given: AbortSignal | undefined;
	timers: { at: number; work: () => void }[] = [];
	frames: (() => void)[] = [];
	async ticket(given: AbortSignal) {
		this.tickets++;
		this.given = given;
		if (this.refuses === "down") throw new Error("down");
		if (this.refuses === "silent") return new Promise<string>(() => undefined);
		return this.refuses === "" ? `t${this.tickets}` : this.refuses;
	}
	open() {
		const sent: Record<string, unknown>[] = [];
		const wire = {
			sent,
			isClosed: false,
			send: (text: string) => void sent.push(JSON.parse(text) as Record<string, unknown>),
			close: () => {
				wire.isClosed = true;
			},
			onopen: null,
			onclose: null,
			onmessage: null,
		};
		this.wires.push(wire);
		return wire;
	}
	now = () => this.time;
	random = () => 0.5;
	isOnline = () => this.online;
	after(milliseconds: number, work: () => void) {
		const timer = { at: this.time + milliseconds, work };
		this.timers.push(timer);
		return () => {
			this.timers = this.timers.filter((other) => other !== timer);
		};
	}
	frame(work: () => void) {
		this.frames.push(work);
	}
	get wire() {
		const last = this.wires.at(-1);
		if (!last) throw new Error("nothing is connected");
		return last;
	}
	async pass(milliseconds: number) {
		this.time += milliseconds;
		const due = this.timers.filter((timer) => timer.at <= this.time);
		this.timers = this.timers.filter((timer) => timer.at > this.time);
		for (const timer of due) timer.work();
		await settled();
	}
	tell(message: object) {
		this.wire.onmessage?.({ data: JSON.stringify(message) });
	}
	draw() {
		for (const work of this.frames.splice(0)) work();
	}
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

function heard(socket: Socket, topic: string) {
	const got: string[] = [];
	const leave = socket.subscribe(topic, {
		push: (push: Push) => got.push(push.event),
		reset: () => got.push("RESET"),
	});
	return { got, leave };
}

async function live() {
	const mesh = new Mesh();
	const socket = new Socket(mesh);
	socket.begin();
	await settled();
	mesh.wire.onopen?.();
	mesh.tell({ live: true, cursor: "c0" });
	return { mesh, socket };
}

const push = (cursor: string, event: string, topic = "nodes") => ({ cursor, topic, event, data: {} });

it("subscribes what comes later without a cursor, and hands over once a frame", async () => {
	const { mesh, socket } = await live();
	const nodes = heard(socket, "nodes");
	expect(mesh.wire.sent).toEqual([{ subscribe: [] }, { subscribe: ["nodes"] }]);
	mesh.tell(push("c1", "node.lost"));
	mesh.tell(push("c2", "node.ready"));
	expect(nodes.got).toEqual([]);
	mesh.draw();
	expect(nodes.got).toEqual(["node.lost", "node.ready"]);
	nodes.leave();
	expect(mesh.wire.sent.at(-1)).toEqual({ unsubscribe: ["nodes"] });
});

/** Whether a promise is kept by now. */
async function kept(promise: Promise<void>): Promise<boolean> {
	let is = false;
	void promise.then(() => {
		is = true;
	});
	await settled();
	return is;
}

it("has reads wait until a topic is pushed, so that nothing falls between", async () => {
	const { mesh, socket } = await live();
	expect(await kept(socket.settled(250))).toBe(true);
	const nodes = heard(socket, "nodes");
	const one = heard(socket, "invocation:inv_1@13");
	const reads = socket.settled(250);
	expect(await kept(reads)).toBe(false);
	mesh.tell({ subscribed: ["nodes"], cursor: "c1" });
	expect(await kept(reads)).toBe(false);
	mesh.tell({ subscribed: ["invocation:inv_1"], cursor: "c1" });
	expect(await kept(reads)).toBe(true);
	expect([nodes.got, one.got]).toEqual([[], []]);
	expect(mesh.timers).toEqual([]);
	mesh.wire.onclose?.();
	await mesh.pass(500);
	mesh.wire.onopen?.();
	expect(mesh.wire.sent.at(-1)).toMatchObject({ after: "c1" });
});

it("has those read again whose topic is pushed later than reads wait", async () => {
	const { mesh, socket } = await live();
	const nodes = heard(socket, "nodes");
	const agents = heard(socket, "agents");
	const reads = socket.settled(250);
	mesh.tell({ subscribed: ["agents"], cursor: "c1" });
	await mesh.pass(250);
	expect(await kept(reads)).toBe(true);
	expect(await kept(socket.settled(250))).toBe(true);
	mesh.tell({ subscribed: ["nodes"], cursor: "c2" });
	expect([nodes.got, agents.got]).toEqual([["RESET"], []]);
	mesh.tell({ subscribed: ["nodes"], cursor: "c2" });
	expect(nodes.got).toEqual(["RESET"]);
});

it("waits for no topic that is refused, left, or told by the next connection", async () => {
	const { mesh, socket } = await live();
	heard(socket, "nodes");
	let reads = socket.settled(250);
	mesh.tell({ error: { status: 403 }, topic: "" });
	expect(await kept(reads)).toBe(true);
	expect(socket.connection.get()).toEqual({ kind: "live" });
	const agents = heard(socket, "agents");
	reads = socket.settled(250);
	agents.leave();
	expect(await kept(reads)).toBe(true);
	heard(socket, "passes");
	reads = socket.settled(250);
	mesh.wire.onclose?.();
	expect(await kept(reads)).toBe(true);
});

it("asks again, later and later, for an invocation that could not be opened", async () => {
	const { mesh, socket } = await live();
	const topic = "invocation:inv_1";
	const one = heard(socket, `${topic}@13`);
	const sent = () => mesh.wire.sent.length;
	const refused = (more: object = {}) => mesh.tell({ error: { status: 503, ...more }, topic, retry: true });
	let before = sent();
	for (let round = 0; round < 7; round++) {
		refused();
		await mesh.pass(400);
		expect(sent()).toBe(before);
		await mesh.pass(15_000);
		expect(sent()).toBe(++before);
		expect(mesh.wire.sent.at(-1)).toEqual({ subscribe: [`${topic}@13`] });
	}
	refused();
	await mesh.pass(60_000);
	expect(sent()).toBe(before);
	// Something came of it: the next failure is the first again, and waits as long as it says.
	mesh.tell(push("c1", "token", topic));
	refused({ retry_after_seconds: 5 });
	await mesh.pass(4_900);
	expect(sent()).toBe(before);
	await mesh.pass(200);
	expect(mesh.wire.sent.at(-1)).toEqual({ subscribe: [topic] });
	// What does not pass is not asked for again, and nothing is that nobody wants.
	mesh.tell({ error: { status: 404 }, topic, retry: false });
	expect(mesh.timers).toEqual([]);
	refused();
	one.leave();
	expect(mesh.timers).toEqual([]);
	expect(socket.connection.get()).toEqual({ kind: "live" });
});

it("begins an invocation after the event that was read, and goes on by the cursor once it heard of it", async () => {
	const { mesh, socket } = await live();
	const one = heard(socket, "invocation:inv_1@13");
	expect(mesh.wire.sent.at(-1)).toEqual({ subscribe: ["invocation:inv_1@13"] });
	mesh.wire.onclose?.();
	await mesh.pass(500);
	mesh.wire.onopen?.();
	expect(mesh.wire.sent).toEqual([{ subscribe: ["invocation:inv_1@13"], after: "c0" }]);
	mesh.tell({ live: true, cursor: "c0" });
	mesh.tell(push("c1", "token", "invocation:inv_1"));
	mesh.draw();
	expect(one.got).toEqual(["token"]);
	mesh.wire.onclose?.();
	await mesh.pass(500);
	mesh.wire.onopen?.();
	expect(mesh.wire.sent).toEqual([{ subscribe: ["invocation:inv_1"], after: "c1" }]);
	one.leave();
	expect(mesh.wire.sent.at(-1)).toEqual({ unsubscribe: ["invocation:inv_1"] });
});

it("has those read again who read before the first cursor was known", async () => {
	const mesh = new Mesh();
	const socket = new Socket(mesh);
	const nodes = heard(socket, "nodes");
	socket.begin();
	await settled();
	mesh.wire.onopen?.();
	expect(mesh.wire.sent).toEqual([{ subscribe: ["nodes"] }]);
	mesh.tell({ live: true, cursor: "c0" });
	expect(nodes.got).toEqual(["RESET"]);
	expect(socket.connection.get()).toEqual({ kind: "live" });
});

it("resumes by cursor after a cut and says since when it is not live", async () => {
	const { mesh, socket } = await live();
	const nodes = heard(socket, "nodes");
	mesh.tell(push("c7", "node.lost"));
	mesh.time = 5_000;
	mesh.wire.onclose?.();
	expect(socket.connection.get()).toEqual({ kind: "reconnecting", at: 5_500, since: 5_000 });
	await mesh.pass(500);
	mesh.wire.onopen?.();
	expect(mesh.wires.length).toBe(2);
	expect(mesh.tickets).toBe(2);
	expect(mesh.wire.sent).toEqual([{ subscribe: ["nodes"], after: "c7" }]);
	expect(socket.connection.get()).toEqual({ kind: "catching up", since: 5_000 });
	mesh.tell(push("c8", "node.ready"));
	mesh.tell({ live: true, cursor: "c8" });
	expect(nodes.got).toEqual(["node.lost", "node.ready"]);
	expect(socket.connection.get()).toEqual({ kind: "live" });
});

it("gives up a ticket that never comes, a socket that never opens and one that never becomes live", async () => {
	const mesh = new Mesh();
	const socket = new Socket(mesh);
	const kind = () => socket.connection.get().kind;
	/** Up to its end, which a moment later would have been too early. */
	const patience = async (milliseconds: number) => {
		await mesh.pass(milliseconds - 1);
		expect(kind()).toBe("catching up");
		await mesh.pass(1);
		expect(kind()).toBe("reconnecting");
		const now = socket.connection.get();
		if (now.kind === "reconnecting") await mesh.pass(now.at - mesh.time);
		expect(kind()).toBe("catching up");
	};
	mesh.refuses = "silent";
	socket.begin();
	await settled();
	const first = mesh.given;
	expect(first?.aborted).toBe(false);
	mesh.refuses = "";
	await patience(10_000);
	expect(first?.aborted).toBe(true);
	// It has a ticket now, and does not open.
	expect(mesh.wires.length).toBe(1);
	await patience(20_000);
	expect(mesh.wires[0]?.isClosed).toBe(true);
	// It opens, tells what was missed for long, and stops before the end of it.
	mesh.wire.onopen?.();
	for (let number = 0; number < 10; number++) {
		mesh.tell(push(`c${number}`, "node.lost"));
		await mesh.pass(39_000);
		expect(kind()).toBe("catching up");
	}
	mesh.tell(push("c10", "node.lost"));
	await patience(40_000);
	mesh.wire.onopen?.();
	expect(mesh.wire.sent).toEqual([{ subscribe: [], after: "c10" }]);
	mesh.tell({ live: true, cursor: "c11" });
	expect(kind()).toBe("live");
	expect(mesh.timers).toEqual([]);
	// What is live may say nothing for as long as nothing happens; the next trouble is the first again.
	await mesh.pass(3_600_000);
	expect(kind()).toBe("live");
	mesh.wire.onclose?.();
	expect(socket.connection.get()).toMatchObject({ at: mesh.time + 500 });
});

it("asks for a topic also between the first message and its answer", async () => {
	const mesh = new Mesh();
	const socket = new Socket(mesh);
	socket.begin();
	await settled();
	const nodes = heard(socket, "nodes");
	mesh.wire.onopen?.();
	heard(socket, "agents");
	expect(mesh.wire.sent).toEqual([{ subscribe: ["nodes"] }, { subscribe: ["agents"] }]);
	nodes.leave();
	expect(mesh.wire.sent.at(-1)).toEqual({ unsubscribe: ["nodes"] });
	mesh.wire.onclose?.();
	await mesh.pass(500);
	heard(socket, "passes");
	mesh.wire.onopen?.();
	expect(mesh.wire.sent).toEqual([{ subscribe: ["agents", "passes"] }]);
});

it("shows a cut at once and connects at once when the browser is online again", async () => {
	const { mesh, socket } = await live();
	mesh.online = false;
	mesh.time = 9_000;
	socket.cut();
	expect(socket.connection.get()).toEqual({ kind: "offline", since: 9_000 });
	expect(mesh.wire.isClosed).toBe(true);
	await mesh.pass(60_000);
	expect(mesh.wires.length).toBe(1);
	mesh.online = true;
	socket.begin();
	await settled();
	expect(mesh.wires.length).toBe(2);
});

it("reads again in place when the cursor is too old", async () => {
	const { mesh, socket } = await live();
	const nodes = heard(socket, "nodes");
	mesh.tell({ reset: { reason: "too old" } });
	expect(nodes.got).toEqual(["RESET"]);
});

it("tries less and less often, and not at all when signed out", async () => {
	const { mesh, socket } = await live();
	mesh.refuses = "down";
	mesh.wire.onclose?.();
	const waits: number[] = [];
	for (let round = 0; round < 7; round++) {
		const now = socket.connection.get();
		if (now.kind !== "reconnecting") throw new Error(now.kind);
		waits.push(now.at - mesh.time);
		await mesh.pass(now.at - mesh.time);
	}
	expect(waits).toEqual([500, 750, 1_500, 3_000, 6_000, 11_250, 11_250]);
	mesh.refuses = "signed out";
	await mesh.pass(60_000);
	expect(socket.connection.get()).toEqual({ kind: "signed out" });
	expect(mesh.timers).toEqual([]);
});

it("waits between half a second and 15", () => {
	for (let failures = 0; failures < 40; failures++) {
		for (const random of [0, 0.999]) {
			expect(backoff(failures, random)).toBeGreaterThanOrEqual(500);
			expect(backoff(failures, random)).toBeLessThanOrEqual(15_000);
		}
	}
});
