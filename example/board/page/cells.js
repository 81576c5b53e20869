// The parts of a row. Each shows a value, and says whether that was another before.
// Data goes into textContent and value only, never into markup.

/** Makes an element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
  element.append(...children);
  return element;
}

/** Marks an element for as long as the style sheet's animation of that name takes. */
export function flash(element, how = "flash") {
  element.classList.remove("flash", "refused");
  void element.offsetWidth; // so that a flash under way starts again
  element.classList.add(how);
}

document.addEventListener("animationend", ({ target }) => target.classList.remove("flash", "refused"));

/** A value to read. */
export class Text {
  #format;
  #value;

  constructor(format) {
    this.#format = format;
    this.element = make("span", { className: "text" });
  }

  show(value) {
    const changed = this.#value !== undefined && this.#value !== value;
    this.#value = value;
    this.element.textContent = this.#format(value);
    return changed;
  }

  name() {}
}

/** A value to edit. What comes in meanwhile never overwrites what is being typed. */
export class Field {
  #options;
  #value;
  #typing = false;

  /**
   * @param {{format, parse, commit: (value) => void, fail: (error: Error) => void, mend: () => void,
   *   inputMode?: string}} options  mend is called when what failed was given up
   */
  constructor(options) {
    this.#options = options;
    this.element = make("input", { className: "field", autocomplete: "off", inputMode: options.inputMode ?? "text" });
    this.element.addEventListener("input", () => (this.#typing = true));
    this.element.addEventListener("change", () => this.#commit());
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  show(value) {
    const changed = this.#value !== undefined && this.#value !== value;
    this.#value = value;
    if (!this.#typing) {
      this.#reset();
    }
    return changed;
  }

  /** What a screen reader calls the field. */
  name(name) {
    this.element.setAttribute("aria-label", name);
  }

  #reset() {
    this.#typing = false;
    this.element.removeAttribute("aria-invalid");
    const text = this.#value === undefined ? "" : this.#options.format(this.#value);
    if (this.element.value !== text) {
      this.element.value = text;
    }
  }

  #key(event) {
    if (event.key === "Enter") {
      this.#commit();
    } else if (event.key === "Escape") {
      this.#giveUp();
    }
  }

  #giveUp() {
    if (this.element.hasAttribute("aria-invalid")) {
      this.#options.mend();
    }
    this.#reset();
  }

  // A text that means nothing stays, marked, until it is put right or given up.
  #commit() {
    if (!this.#typing) {
      return; // Enter, and leaving the field after it, save once
    }
    try {
      const value = this.#options.parse(this.element.value);
      this.#typing = false;
      if (value !== this.#value) {
        this.#options.commit(value); // and shows it
      }
      this.#giveUp();
    } catch (error) {
      this.element.setAttribute("aria-invalid", "true");
      this.#options.fail(error);
    }
  }
}
