// The polyfill looks for it when it is loaded; whoever calls it is told what there is instead.
const scope = globalThis as { setTimeout?: unknown };
scope.setTimeout ??= () => {
  throw new Error("there is no setTimeout in a channel: ctx.setTimer calls it with an event");
};

export {};
