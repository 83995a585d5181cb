/** What the page and its worker say to each other. */

import type { Times } from "../decoder/index.js";

/** A bundle's URL, first of all; then streams to decode, with numbers to tell their answers by. */
export type Request =
  | { readonly kind: "open"; readonly bundle: string }
  | { readonly kind: "decode"; readonly id: number; readonly bytes: ArrayBuffer };

export type Answer =
  | { readonly kind: "progress"; readonly bytes: number; readonly total: number }
  | { readonly kind: "open"; readonly name: string; readonly milliseconds: number }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "error"; readonly id: number; readonly message: string }
  | {
      readonly kind: "picture";
      readonly id: number;
      readonly data: ArrayBuffer;
      readonly width: number;
      readonly height: number;
      readonly quality: number;
      readonly times: Times;
    };
