// Promises whose continuations are run by us. A component's own never go on: nothing runs its queue when a call of the host
// has returned. esbuild makes generators of async functions, and those use the `Promise` that is set here.

import "./no-timers";
import Polyfill from "promise-polyfill";

const queue: Array<() => void> = [];

Polyfill._immediateFn = (task) => void queue.push(task);

/** What is done with a failure that nobody waits for. */
export function onUnhandled(handle: (reason: unknown) => void): void {
  Polyfill._unhandledRejectionFn = handle;
}

/** Runs everything that can go on, and what goes on because of it. */
export function drain(): void {
  for (let next = 0; next < queue.length; next++) {
    queue[next]!();
  }
  queue.length = 0;
}

globalThis.Promise = Polyfill;
