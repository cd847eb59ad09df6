// A component has no clock, and ends where it asks one: `Date` tells the host's time instead.

/** Makes `Date` tell the time of the frame that is being handled. */
export function tellTime(now: () => number): void {
  const Real = Date;
  class HostDate extends Real {
    constructor(...said: unknown[]) {
      super(...((said.length > 0 ? said : [now()]) as [number]));
    }

    static override now(): number {
      return now();
    }
  }
  globalThis.Date = HostDate as DateConstructor;
}
