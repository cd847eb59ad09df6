declare module "omni:channel/host@1.0.0" {
  /** Takes one frame; returns when there is room for it. `false` when the instance has ended for the host. */
  export function deliver(frame: Uint8Array): boolean;
}

declare module "promise-polyfill" {
  const Polyfill: PromiseConstructor & {
    _immediateFn: (task: () => void) => void;
    _unhandledRejectionFn: (reason: unknown) => void;
  };
  export default Polyfill;
}
