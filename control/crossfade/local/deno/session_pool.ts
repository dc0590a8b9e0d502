/** A bounded number of database sessions, each lent to one request at a time. */
import { Session } from "./session.ts";

/** Lends sessions; a caller waits when all are out. */
export class SessionPool {
  readonly #idle: Session[] = [];
  readonly #waiting: (() => void)[] = [];
  #open = 0;
  #generation = 0;

  constructor(readonly connect: () => Session, readonly size: number) {}

  /** Lend a session for the work; afterwards it is kept only if it is still of use. */
  async use<T>(run: (session: Session) => Promise<T>, isFatal: (error: unknown) => boolean) {
    const generation = this.#generation;
    const session = await this.#acquire();
    let keep = true;
    try {
      return await run(session);
    } catch (error) {
      keep = !isFatal(error);
      throw error;
    } finally {
      this.#release(session, keep && generation === this.#generation);
    }
  }

  /** Replace all sessions, so that no prepared statement outlives a change of schema. */
  renew(): void {
    this.#generation++;
    for (const session of this.#idle.splice(0)) this.#close(session);
  }

  async #acquire(): Promise<Session> {
    while (true) {
      const session = this.#idle.pop();
      if (session) return session;
      if (this.#open < this.size) {
        this.#open++;
        return this.connect();
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #release(session: Session, keep: boolean): void {
    if (keep) this.#idle.push(session);
    else this.#close(session);
    this.#waiting.shift()?.();
  }

  #close(session: Session): void {
    this.#open--;
    session.close();
  }
}
