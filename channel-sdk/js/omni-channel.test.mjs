// One instance behind its driver, frame by frame: what a host may count on, whatever the channel does. It runs where there
// is as little as in a component: no TextDecoder, no timers, no console, and promises that only the SDK makes go on.
//
//   cd examples/js-channel && npm install --ignore-scripts && npm test

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";

const project = createRequire(join(process.cwd(), "package.json"));
const folder = dirname(fileURLToPath(import.meta.url));

const PROBE = `
import * as omni from "./omni-channel";

const Letter = omni.shape.object({ id: omni.shape.string });
const hello = (id = "m") => omni.event(omni.chat("c"), 5, omni.message(id, omni.user("u"), omni.text("hello")));
let shared;

class Probe extends omni.Channel {
  static async start(ctx, config) {
    if (config.how === "throw") throw new TypeError("on purpose, in the start");
    if (config.how === "fail") throw omni.ChannelError.loggedOut("no longer", "log in");
    if (config.how === "ask") await ctx.get("key");
    return new omni.Started(new Probe(config), ...(config.ingress ?? []));
  }
  async nextPoll(ctx) {
    return omni.httpGet("https://api.example/?after=" + (await ctx.getText("after", "0")));
  }
  async onEvent(ctx, event) {
    if (event.tag === "slow") return { pollAfterMs: 1500.5 };
    if (event.tag === "http") await ctx.http(omni.httpGet("https://api.example/"));
    if (event.type === "socketText") return { socketSend: ["pong"] };
    if (event.type === "socketBinary") return { socketSend: [omni.decodeUtf8(event.bytes)] };
    if (event.type === "webhook") {
      ctx.set("seen", event.request.body);
      return omni.replyJson(202, event.request.json());
    }
    if (event.type === "pollResponse") {
      ctx.emit(hello(event.response.json(Letter).id));
      ctx.set("after", event.response.text().slice(0, 3));
    }
  }
  async onEvents(ctx, events) {
    const outcomes = await super.onEvents(ctx, events);
    return events[0]?.tag === "short" ? outcomes.slice(1) : outcomes;
  }
  async send(ctx, request) {
    const what = request.clientId;
    ctx.set("written", what);
    ctx.emit(hello());
    switch (what) {
      case "plain": return omni.receipt("plain");
      case "time": return omni.receipt([Date.now(), new Date().toISOString(), new Date(7).getTime()].join(" "));
      case "throw": throw new TypeError("on purpose");
      case "throw words": throw "on purpose";
      case "fail": throw omni.SendError.rateLimited(7.9, "wait");
      case "unsayable error": throw omni.SendError.rateLimited(NaN, "soon");
      case "state": throw omni.ChannelError.loggedOut("gone", "log in");
      case "never": await new Promise(() => {});
      case "nothing": return;
      case "no time": ctx.emit({ ...hello(), at: NaN });
      case "unsayable": { const round = { messageId: "x" }; round.round = round; return round; }
      case "half": return omni.receipt("a\\ud83d👋\\\\ud83d");
      case "timeout": setTimeout(() => {}, 1);
      case "console": console.log("said", 1); return omni.receipt("said");
      case "unhandled": Promise.reject(new Error("forgotten")); return omni.receipt("x");
      case "guard": try { await ctx.get("x"); } finally { ctx.log("info", "dropped"); await ctx.get("y"); }
      case "both": {
        const [one, other] = await Promise.all([ctx.getText("x", "none"), ctx.getText("y", "none")]);
        return omni.receipt(one + other);
      }
      case "shared": shared ??= ctx.getText("token"); return omni.receipt(await shared);
      case "own":
        ctx.delete("gone");
        return omni.receipt([await ctx.getText("written"), await ctx.get("gone"), await ctx.getText("stored")].join());
      case "scan": {
        ctx.set("a/2", "two"); ctx.set("a/\\ud83d\\udc4b", "wave"); ctx.set("a/\\uffee", "last"); ctx.delete("a/3");
        const found = await ctx.scan("a/", undefined, 2);
        return omni.receipt(found.map(([key, value]) => key + "=" + omni.decodeUtf8(value)).join());
      }
      case "timers": ctx.setTimer("t", 1000.7); ctx.cancelTimer("u"); ctx.socketSend("hi"); ctx.socketClose(4000, "s", { reopenAfterMs: 5 }); return omni.receipt(String(ctx.now));
    }
    const response = await ctx.http(omni.httpPostJson("https://api.example/", { what }, { a: "b" }));
    return omni.receipt(response.json(Letter).id);
  }
  async stop(ctx) { ctx.log("info", "goodbye"); }
}

export const open = () => omni.exportChannel(Probe);
export { omni };
export { toJson } from "./frame";
`;

const { outputFiles } = await project("esbuild").build({
  stdin: { contents: PROBE, resolveDir: folder, loader: "ts" },
  bundle: true,
  write: false,
  format: "iife",
  globalName: "probe",
  target: "es2016",
  nodePaths: [join(process.cwd(), "node_modules")],
  plugins: [
    {
      name: "host",
      setup(build) {
        build.onResolve({ filter: /^omni:/ }, ({ path }) => ({ path, namespace: "host" }));
        build.onLoad({ filter: /./, namespace: "host" }, () => ({ contents: "export const deliver = (frame) => hostDeliver(frame);" }));
      },
    },
  ],
});

let frames, isThere, guest, probe;

beforeEach(() => {
  frames = [];
  isThere = true;
  const world = vm.createContext({ console: undefined, hostDeliver: (frame) => (frames.push(Buffer.from(frame)), isThere) });
  vm.runInContext(`"use strict"; ${outputFiles[0].text}; globalThis.probe = probe;`, world);
  probe = world.probe;
  guest = probe.open();
});

function encode(head, ...tails) {
  const parts = [Buffer.from(typeof head === "string" ? head : JSON.stringify(head)), ...tails.map((tail) => Buffer.from(tail))];
  const framed = parts.flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(part.length);
    return [length, part];
  });
  return new Uint8Array(Buffer.concat(framed));
}

function decode(frame) {
  const parts = [];
  for (let at = 0; at < frame.length; ) {
    const end = at + 4 + frame.readUInt32LE(at);
    parts.push(frame.subarray(at + 4, end).toString());
    at = end;
  }
  return { head: JSON.parse(parts[0]), tails: parts.slice(1) };
}

const deliver = (head, ...tails) => guest.deliver(encode(head, ...tails));
const begin = (call, op, ...tails) => deliver({ begin: { call, now: 5, op } }, ...tails);
const start = (config) => begin(1, { start: { instance: "i", config: { how: "well", ...config } } });
const send = (call, clientId) => begin(call, { request: { request: { type: "send", chat: "c", clientId, content: {} } } });
const events = (call, events, ...tails) => begin(call, { events: { events } }, ...tails);
const answer = (call, id, answer, ...tails) => deliver({ answer: { call, id, now: 6, answer } }, ...tails);
const silent = () => assert.deepEqual(frames, []);
const next = () => {
  assert.ok(frames.length > 0, "the channel has something to say");
  return decode(frames.shift());
};
const logged = () => next().head.log.message;

function done(call, expected = []) {
  const { head, tails } = next();
  assert.equal(head.done?.call, call, JSON.stringify(head));
  assert.deepEqual(tails, expected);
  return head.done;
}

function failed(call) {
  const { result, commit } = done(call);
  assert.deepEqual(commit, {});
  return result.err;
}

function asked(call) {
  const { head } = next();
  assert.equal(head.call?.call, call, JSON.stringify(head));
  return [head.call.id, head.call.request];
}

const started = (config) => (start(config), assert.ok(done(1).result.ok));
const sent = (call, tails) => done(call, tails).result.ok.reply.reply.messageId;
const OK = { http: { response: { status: 200 } } };
const hello = (id = "m") => ({
  at: 5,
  body: { type: "message", id, sender: { id: "u" }, content: { type: "text", text: "hello" } },
  chat: { id: "c", kind: "direct" },
});

test("many calls wait at once and end in any order", () => {
  started();
  send(2, "one");
  send(3, "two");
  const [one, request] = asked(2);
  assert.deepEqual(request.http.http.headers, [{ name: "a", value: "b" }]);
  const [two] = asked(3);
  send(4, "plain");
  assert.equal(sent(4, ["plain"]), "plain");
  answer(3, two, OK, '{"id": "second"}');
  assert.equal(sent(3, ["two"]), "second");
  answer(2, one, OK, '{"id": "first"}');
  assert.equal(sent(2, ["one"]), "first");
  silent();
});

test("what a call gives is stored when it ends well, and only then", () => {
  started();
  send(2, "plain");
  assert.deepEqual(done(2, ["plain"]).commit, { events: [hello()], writes: [{ key: "written" }] });
  ["fail", "throw", "nothing", "unsayable", "never"].forEach((what, i) => {
    send(3 + i, what);
    if (decode(frames[0]).head.log) next();
    failed(3 + i);
  });
});

test("a call sees what it wrote", () => {
  started();
  send(2, "own");
  const [id, request] = asked(2);
  assert.deepEqual(request, { kvGet: { key: "stored" } });
  answer(2, id, { kvValue: { found: true } }, "s");
  const { result, commit } = done(2, ["own"]);
  assert.equal(result.ok.reply.reply.messageId, "own,,s");
  assert.deepEqual(commit.writes, [{ key: "gone", delete: true }, { key: "written" }]);
});

test("a scan merges what is stored and what was written, in the order of the host", () => {
  started();
  send(2, "scan");
  const [id, request] = asked(2);
  assert.deepEqual(request.kvScan, { prefix: "a/", limit: 6 });
  answer(2, id, { kvEntries: { keys: ["a/1", "a/3"] } }, "1", "3");
  const { result, commit } = done(2, ["two", "last", "wave", "scan"]);
  assert.equal(result.ok.reply.reply.messageId, "a/1=1,a/2=two");
  assert.deepEqual(commit.writes.map(({ key }) => key), ["a/2", "a/3", "a/\uffee", "a/👋", "written"]);
});

test("two questions of one call are answered in any order, and calls can share an answer", () => {
  started();
  send(2, "both");
  const [first] = asked(2);
  const [second] = asked(2);
  answer(2, second, { kvValue: { found: true } }, "y");
  answer(2, second, { kvValue: { found: true } }, "again");
  answer(2, 99, { kvValue: { found: true } }, "to nobody");
  silent();
  answer(2, first, { kvValue: { found: false } });
  assert.equal(sent(2, ["both"]), "noney");
  send(3, "shared");
  send(4, "shared");
  const [id] = asked(3);
  silent();
  answer(3, id, { kvValue: { found: true } }, "token");
  assert.equal(sent(3, ["shared"]), "token");
  assert.equal(sent(4, ["shared"]), "token");
});

test("timers, the time, the console", () => {
  started();
  send(2, "timers");
  const { result, commit } = done(2, ["timers"]);
  assert.deepEqual(commit.timers, [{ tag: "t", afterMs: 1000 }, { tag: "u" }]);
  assert.deepEqual(commit.sockets, [{ tag: "", send: ["hi"] }, { tag: "s", close: 4000, reopenAfterMs: 5 }]);
  assert.equal(result.ok.reply.reply.messageId, "5");
  send(3, "console");
  assert.equal(logged(), "said 1");
  done(3, ["console"]);
  send(4, "unhandled");
  assert.match(logged(), /forgotten/);
  done(4, ["unhandled"]);
});

test("a cancelled call is dropped and says nothing more", () => {
  started();
  send(2, "guard");
  const [id] = asked(2);
  deliver({ cancel: { call: 2 } });
  assert.equal(logged(), "dropped");
  answer(2, id, { kvValue: { found: false } });
  deliver({ cancel: { call: 77 } });
  silent();
  send(4, "plain");
  sent(4, ["plain"]);
});

test("an exception ends its call and no other", () => {
  started();
  send(2, "one");
  const [id] = asked(2);
  ["throw", "throw words", "nothing", "no time", "timeout", "unsayable error"].forEach((what, i) => {
    send(3 + i, what);
    assert.match(logged(), /^the channel threw /);
    const { error, panicked } = failed(3 + i);
    assert.ok(panicked);
    assert.deepEqual([error.code, error.next, error.certain], ["internal", "us", false]);
  });
  answer(2, id, OK, '{"id": "late"}');
  assert.equal(sent(2, ["one"]), "late");
});

test("what waits for nothing that comes is ended", () => {
  started();
  send(2, "one");
  const [id] = asked(2);
  send(3, "never");
  silent();
  answer(2, id, OK, '{"id": "x"}');
  sent(2, ["one"]);
  logged();
  assert.match(failed(3).error.message, /await only what the Context gives/);
});

test("what cannot be said fails the call, and half of a pair is replaced", () => {
  started();
  send(2, "unsayable");
  const failure = failed(2);
  assert.deepEqual([failure.panicked, failure.error.code], [false, "internal"]);
  send(3, "half");
  assert.equal(sent(3, ["half"]), "a\ufffd👋\\ud83d");
});

test("errors say who acts next", () => {
  started();
  send(2, "fail");
  const limited = { code: "rateLimited", message: "wait", next: "retry", certain: true, retryAfterMs: 7 };
  assert.deepEqual(failed(2), { error: limited, panicked: false });
  send(3, "state");
  assert.deepEqual(failed(3).state, { state: "logged_out", reason: "gone", userAction: "log in" });
  const answers = [
    [{ httpFailed: { failure: { message: "broke", sent: true } } }, "unreachable", false],
    [{ httpFailed: { failure: { message: "broke", sent: false } } }, "network", true],
    [{ failed: { message: "not now" } }, "network", true],
    [{ somethingNew: {} }, "unreachable", false],
    [OK, "unreachable", false],
  ];
  answers.forEach(([said, code, certain], i) => {
    send(4 + i, "one");
    const [id] = asked(4 + i);
    answer(4 + i, id, said, '{"id": 7}');
    const { error } = failed(4 + i);
    assert.deepEqual([error.code, error.certain], [code, certain]);
  });
  isThere = false;
  send(20, "one");
  asked(20);
  assert.equal(failed(20).error.message, "the host has ended this instance");
});

test("events fail as events", () => {
  started();
  events(2, [{ type: "timer", tag: "http" }]);
  const [id] = asked(2);
  answer(2, id, { httpFailed: { failure: { message: "broke", sent: true } } });
  assert.equal(failed(2).error.code, "network");
  events(3, [{ type: "pollResponse", tag: "", response: { status: 200 } }], "<html>");
  assert.equal(failed(3).error.code, "invalid");
  begin(4, { login: { login: { type: "start" } } });
  assert.equal(failed(4).error.code, "invalid");
});

test("what is not supported", () => {
  started();
  Object.entries({ edit: "edits", dance: "dance", toString: "toString" }).forEach(([type, words], i) => {
    begin(2 + i, { request: { request: { type, chat: "c" } } });
    const message = `this channel does not support ${words}`;
    assert.deepEqual(failed(2 + i), {
      error: { code: "unsupported", message, next: "caller", certain: true },
      panicked: false,
    });
  });
  begin(9, { somethingNew: {} });
  assert.equal(failed(9).error.code, "unsupported");
  deliver({ somethingNew: { call: 3 } });
  silent();
});

test("polls are asked for after the start", () => {
  start({ ingress: [{ type: "longPoll" }, { type: "timer", tag: "t", everyMs: 5 }, { type: "longPoll", tag: "b" }] });
  for (const after of ["4", "5"]) {
    const [id] = asked(1);
    answer(1, id, { kvValue: { found: true } }, after);
  }
  const { polls } = done(1).result.ok.started;
  assert.deepEqual(polls.map(({ tag, call }) => [tag, call.url.slice(-1)]), [["", "4"], ["b", "5"]]);
});

test("an instance is started once, and answers nothing before it or after the stop", () => {
  send(2, "plain");
  assert.equal(failed(2).error.message, "the instance is not running");
  start({ how: "ask" });
  asked(1);
  send(3, "plain");
  failed(3);
  answer(1, 1, { kvValue: { found: false } });
  done(1);
  start();
  assert.equal(failed(1).error.message, "the instance was already started");
  begin(4, { stop: {} });
  assert.equal(logged(), "goodbye");
  assert.deepEqual(done(4).result, { ok: { stopped: {} } });
  send(5, "plain");
  failed(5);
});

test("a start that fails", () => {
  start({ how: "fail" });
  assert.equal(failed(1).state.state, "logged_out");
  guest = probe.open();
  start({ how: "throw" });
  logged();
  assert.ok(failed(1).panicked);
  send(2, "plain");
  failed(2);
});

test("bytes lie beside in order", () => {
  started();
  const webhook = { type: "webhook", request: { method: "POST", path: "/" } };
  const others = [{ type: "socketText", tag: "s", text: "ping" }, { type: "somethingNew" }, { type: "socketBinary", tag: "s" }];
  events(2, [webhook, ...others, webhook], "[1]", "bin", "[2]");
  const { result } = done(2, ["[2]", "[1]", "[2]"]);
  const headers = [{ name: "content-type", value: "application/json" }];
  const reply = { reply: { status: 202, headers } };
  assert.deepEqual(result.ok.events.outcomes, [reply, { socketSend: ["pong"] }, {}, { socketSend: ["bin"] }, reply]);
});

test("the next poll is asked once for each tag, when what was written can be read", () => {
  started();
  const answered = { type: "pollResponse", tag: "", response: { status: 200 } };
  const broken = { type: "pollFailed", tag: "b", failure: { message: "no", sent: false } };
  events(2, [answered, broken, answered], '{"id": "1"}', '{"id": "2"}');
  const { result, commit } = done(2, ['{"i']);
  assert.deepEqual(commit.events.map(({ body }) => body.id), ["1", "2"]);
  assert.deepEqual(result.ok.events.polls.map(({ tag }) => tag), ["", "b"]);
  assert.equal(result.ok.events.polls[0].call.url, 'https://api.example/?after={"i');
  events(3, [{ type: "timer", tag: "short" }, { type: "timer", tag: "t" }]);
  assert.equal(failed(3).error.message, "onEvents took 2 events and gave 1 outcomes");
  events(4, [{ type: "timer", tag: "slow" }]);
  assert.deepEqual(done(4).result.ok.events.outcomes, [{ pollAfterMs: 1500 }]);
});

test("mangled frames are refused and the instance lives", () => {
  started();
  const good = encode({ begin: { call: 2, now: 5, op: { stop: {} } } });
  const op = (op) => encode({ begin: { call: 2, now: 5, op } });
  const bad = Array.from(good, (_, end) => good.subarray(0, end));
  bad.push(Uint8Array.of(...good, 1), encode([]), encode({}), encode({ begin: {}, poll: {} }), encode("{x"));
  bad.push(encode({ begin: { call: "2", now: 5, op: { stop: {} } } }), encode({ begin: null }), Uint8Array.of(1, 0, 0, 0, 255));
  bad.push(op({}), op("stop"), op({ events: {} }), op({ request: {} }), op({ events: { events: [{ type: "socketBinary" }] } }));
  bad.push(encode({ answer: { call: 2 } }), encode({ ping: {} }), encode({ cancel: { call: true } }));
  for (const frame of bad) {
    assert.throws(() => guest.deliver(frame), (error) => typeof error === "string" && error.startsWith("frame "));
  }
  silent();
  send(3, "plain");
  sent(3, ["plain"]);
});

test("a ping is answered as it is, and a poll goes on waiting", () => {
  deliver('{"ping":{"nonce":18446744073709551615}}');
  assert.ok(frames.shift().toString().endsWith('{"pong":{"nonce":18446744073709551615}}'));
  started();
  send(2, "one");
  asked(2);
  deliver({ poll: { call: 2, now: 9 } });
  silent();
});

test("the time is the host's", () => {
  started();
  begin(2, { request: { request: { type: "send", chat: "c", clientId: "time", content: {} } } });
  assert.ok(frames.pop().toString().includes('"5 1970-01-01T00:00:00.005Z 7"'));
});

test("UTF-8 is as others write and read it", () => {
  const { decodeUtf8, encodeUtf8, HttpResponse, BadJson } = probe.omni;
  const words = ["", "plain", "é ß 👋 \u0000 \uffff", "\ud83d", "\udc4b\ud83d", "x".repeat(5000) + "é" + "y".repeat(5000), "日本👋".repeat(3000)];
  for (const text of words) {
    assert.deepEqual(Buffer.from(encodeUtf8(text)), Buffer.from(new TextEncoder().encode(text)));
    assert.equal(decodeUtf8(encodeUtf8(text)), new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(text)));
  }
  const seeds = [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff];
  for (const a of seeds) for (const b of seeds) for (const c of seeds) {
    for (const bytes of [[a, b, c], [0xf0, a, b, c], [0xf4, a, b, c, 0x41]]) {
      const expected = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
      assert.equal(decodeUtf8(Uint8Array.from(bytes)), expected, String(bytes));
      assert.equal(decodeUtf8(Uint8Array.from(bytes), true) === undefined, expected.includes("\ufffd"), String(bytes));
    }
  }
  assert.throws(() => new HttpResponse(200, {}, Uint8Array.of(0x22, 0xff, 0x22)).json(), BadJson);
  const json = (text) => new HttpResponse(200, {}, Uint8Array.from(text, (c) => c.charCodeAt(0))).json();
  for (const deep of ["[".repeat(100_000), '{"a":'.repeat(100_000), "[".repeat(129) + "]".repeat(129)]) {
    assert.throws(() => json(deep), (error) => error instanceof BadJson && error.message.includes("128 levels deep"));
  }
  assert.equal(json("[".repeat(128) + "]".repeat(128)).length, 1);
  // Brackets beside each other, and in words, are no depth.
  assert.equal(json(`[${"[],".repeat(1_000)}[]]`).length, 1_001);
  assert.equal(json(JSON.stringify(['\\"'.repeat(500) + "[{".repeat(500)])).length, 1);
  assert.equal(probe.toJson("\\ud83d \ud83d \\\ud83d 👋"), '"\\\\ud83d \\ufffd \\\\\\ufffd 👋"');
});

test("shapes say what does not fit", () => {
  const { fit, shape, BadJson } = probe.omni;
  const inner = shape.object({ word: shape.word("a", "b"), number: shape.number });
  const outer = shape.object({ id: shape.integer, inner: shape.optional(shape.nullable(shape.list(inner))), more: shape.optional(shape.map(shape.any)) });
  const one = { word: "a", number: 1 };
  for (const good of [{ id: 1 }, { id: 1, inner: null }, { id: 1, inner: [one], other: 3, more: { a: [] } }]) {
    assert.equal(fit(good, outer), good);
  }
  const bad = [
    [[], "it is not an object"],
    [{}, "it has no id"],
    [{ id: 1e300 }, "it.id is not a whole number"],
    [{ id: 1, inner: [one, { word: "c", number: 1 }] }, "it.inner[1].word is not one of a, b"],
    [{ id: 1, more: [] }, "it.more is not an object"],
  ];
  for (const [value, where] of bad) {
    assert.throws(() => fit(value, outer), (error) => error instanceof BadJson && error.message.endsWith(where));
  }
});
