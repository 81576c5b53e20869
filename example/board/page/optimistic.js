// Shows what a person has just entered, before the row that comes of it is here.
//
// Rows are told apart by their revision, which every write raises. The answer to a
// write says which revision it made. So an edit covers the rows that come until one
// has that revision, or a later one; those before it are echoes of an older time,
// whenever they come. An edit that is refused is taken back.

export class Optimistic {
  #row; // the newest from the node
  #edits = []; // that its revision does not have yet, the oldest first
  #written = Promise.resolve(); // settles when the newest write has its answer
  #changed;

  /** @param {() => void} changed  is called when an edit was made, has arrived, or was refused */
  constructor(changed) {
    this.#changed = changed;
  }

  /** The newest row from the node, as it came. */
  get row() {
    return this.#row;
  }

  /** The row to show. */
  get shown() {
    return this.#row && Object.assign({}, this.#row, ...this.#edits.map((edit) => edit.values));
  }

  /** Whether what is shown of a field is not yet known to be so. */
  isPending(field) {
    return this.#edits.some((edit) => field in edit.values);
  }

  /** Takes a row from the node. */
  receive(row) {
    this.#row = row;
    this.#settle();
  }

  /**
   * Shows values at once, and writes them.
   *
   * @template {{revision: number}} Answer
   * @param {object} values  the fields to show until then
   * @param {() => Promise<Answer>} write  what it throws, this throws, when the values are taken back
   * @returns {Promise<Answer>}
   */
  async edit(values, write) {
    const edit = { values, revision: Infinity }; // until the answer says which
    this.#edits.push(edit);
    this.#changed();
    // One write after the other, or what was entered last may not be what stays.
    const answer = this.#written.then(write);
    this.#written = answer.catch(() => {});
    try {
      edit.revision = (await answer).revision;
    } catch (error) {
      edit.revision = -Infinity;
      throw error;
    } finally {
      this.#settle();
      this.#changed();
    }
    return answer;
  }

  #settle() {
    this.#edits = this.#edits.filter((edit) => edit.revision > this.#row.revision);
  }
}
