/**
 * What a version change is: the only thing between two neighbouring formats of a message.
 *
 * @module
 */

import type { Message } from "../../types.ts";

/** A change of the message format from one version to the next. */
export interface Change {
  /** File name without its ending; the number orders the changes. */
  readonly id: string;
  /** One sentence for the changelog. */
  readonly description: string;
  /** Version that `up` produces; `down` produces the one before. */
  readonly version: number;
  /**
   * Returns the newer form of a message. What the older form cannot show is taken from `base`, the
   * message as it is stored in the newer form.
   */
  readonly up: (message: Message, base?: Message) => Message;
  /** Returns the older form, which is a view of the newer one. */
  readonly down: (message: Message) => Message;
}
