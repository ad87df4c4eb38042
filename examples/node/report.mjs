// Reports on standard output, one JSON object a line; people read standard error.

/** Views are repeated this often even when nothing changed, since round trips drift. */
const VIEW_INTERVAL = 200;

export class Report {
  #started = performance.now();

  constructor() {
    // Whoever read our reports may be gone. Standard input has ended as well then, and we leave
    // in good order.
    process.stdout.on('error', () => {});
  }

  /** The node listens and can be joined through. */
  ready(cluster) {
    this.#line({ type: 'ready', id: cluster.local.id, addr: cluster.addr });
  }

  /** How a request that we were told to make went; the error is a code. */
  asked(target, error) {
    this.#line({ type: 'asked', target, ok: error === null, error });
  }

  /**
   * Reports every event, and the members whenever one happened or a while has passed, until the
   * cluster is closed.
   */
  async views(cluster) {
    const events = cluster.events();
    this.#view(cluster);
    const tick = setInterval(() => this.#view(cluster), VIEW_INTERVAL);
    for await (const event of events) {
      // The view first: whoever acts on the event then knows at least what it changed.
      this.#view(cluster);
      const member = 'member' in event ? event.member.id : null;
      const at_ms = Math.floor(performance.now() - this.#started);
      this.#line({ type: 'event', kind: event.kind, member, at_ms });
    }
    clearInterval(tick);
  }

  #view(cluster) {
    this.#line({ type: 'view', members: cluster.members().map(row) });
  }

  #line(line) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}

function row({ id, instance, incarnation, state, rtt, unresponsive, tags }) {
  return {
    id,
    // As text: a JSON number does not hold 64 bits everywhere.
    instance: instance.toString(16).padStart(16, '0'),
    incarnation: Number(incarnation),
    state,
    rtt_us: rtt === null ? null : Math.round(rtt * 1000),
    unresponsive,
    tags,
  };
}
