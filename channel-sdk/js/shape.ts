// Whether JSON is what it should be, so that a channel need not fear what a network sends.

import { BadJson } from "./errors";

/** What JSON has to look like to be a `T`. */
export interface Shape<T> {
  /** What is wrong, in words. */
  misfit(value: unknown, path: string): string | undefined;
  /** For the compiler alone. */
  readonly type?: T;
  readonly optional?: boolean;
}

type Optional<T> = Shape<T> & { readonly optional: true };

/** The type that a shape stands for. */
export type Of<S> = S extends Shape<infer T> ? T : never;

type Fields<F> = { [K in keyof F as F[K] extends { optional: true } ? never : K]: Of<F[K]> } & {
  [K in keyof F as F[K] extends { optional: true } ? K : never]?: Of<F[K]>;
};

function plain<T>(what: string, fits: (value: unknown) => boolean): Shape<T> {
  return { misfit: (value, path) => (fits(value) ? undefined : `${path} is not ${what}`) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export const shape = {
  any: plain<any>("anything", () => true),
  string: plain<string>("a string", (value) => typeof value === "string"),
  number: plain<number>("a number", (value) => typeof value === "number"),
  integer: plain<number>("a whole number", (value) => Number.isSafeInteger(value)),
  boolean: plain<boolean>("true or false", (value) => typeof value === "boolean"),

  /** Exactly one of these words. */
  word<const W extends string>(...words: W[]): Shape<W> {
    return plain<W>(`one of ${words.join(", ")}`, (value) => words.includes(value as W));
  },

  list<T>(each: Shape<T>): Shape<T[]> {
    return {
      misfit(value, path) {
        if (!Array.isArray(value)) return `${path} is not a list`;
        for (let i = 0; i < value.length; i++) {
          const misfit = each.misfit(value[i], `${path}[${i}]`);
          if (misfit) return misfit;
        }
        return undefined;
      },
    };
  },

  /** An object with any keys. */
  map<T>(each: Shape<T>): Shape<Record<string, T>> {
    return {
      misfit(value, path) {
        if (!isObject(value)) return `${path} is not an object`;
        for (const key of Object.keys(value)) {
          const misfit = each.misfit(value[key], `${path}.${key}`);
          if (misfit) return misfit;
        }
        return undefined;
      },
    };
  },

  /** An object with these fields; others are let through. */
  object<F extends Record<string, Shape<any>>>(fields: F): Shape<Fields<F>> {
    return {
      misfit(value, path) {
        if (!isObject(value)) return `${path} is not an object`;
        for (const name of Object.keys(fields)) {
          const field = fields[name]!;
          if (!Object.prototype.hasOwnProperty.call(value, name)) {
            if (!field.optional) return `${path} has no ${name}`;
            continue;
          }
          const misfit = field.misfit(value[name], `${path}.${name}`);
          if (misfit) return misfit;
        }
        return undefined;
      },
    };
  },

  /** A field that may be left out. */
  optional<T>(of: Shape<T>): Optional<T> {
    return { misfit: of.misfit, optional: true };
  },

  nullable<T>(of: Shape<T>): Shape<T | null> {
    return { misfit: (value, path) => (value === null ? undefined : of.misfit(value, path)) };
  },

  /** Either of two. */
  either<A, B>(one: Shape<A>, other: Shape<B>): Shape<A | B> {
    return { misfit: (value, path) => one.misfit(value, path) && other.misfit(value, path) };
  },
};

/** The value, if it fits; throws `BadJson` otherwise. */
export function fit<T>(value: unknown, of: Shape<T>): T {
  const misfit = of.misfit(value, "it");
  if (misfit) throw new BadJson(misfit);
  return value as T;
}
