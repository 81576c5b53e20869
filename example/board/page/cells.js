// The parts of a row. Each shows a value, and flashes when it becomes another.
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

/** Marks an element for as long as the style sheet's flash takes. */
export function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth; // so that a flash under way starts again
  element.classList.add("flash");
}

document.addEventListener("animationend", (event) => {
  if (event.animationName.startsWith("flash")) {
    event.target.classList.remove("flash");
  }
});

/** A value to read. */
export class Text {
  #value;

  constructor(format) {
    this.#format = format;
    this.element = make("span", { className: "text" });
  }

  #format;

  show(value, cell) {
    if (this.#value !== undefined && this.#value !== value) {
      flash(cell);
    }
    this.#value = value;
    this.element.textContent = this.#format(value);
  }

  name() {}
}

/** A value to edit. What comes in meanwhile never overwrites what is being typed. */
export class Field {
  #options;
  #value;
  #typing = false;
  #sending = null; // the text that is being saved
  #shown = 0; // how often a row came in

  /** @param {{format, parse, commit: (value) => Promise, fail: (Error) => void, inputMode?: string}} options */
  constructor(options) {
    this.#options = options;
    this.element = make("input", { className: "field", autocomplete: "off", inputMode: options.inputMode ?? "text" });
    this.element.addEventListener("input", () => (this.#typing = true));
    this.element.addEventListener("change", () => this.#commit());
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  show(value, cell) {
    if (this.#value !== undefined && this.#value !== value) {
      flash(cell);
    }
    this.#value = value;
    this.#shown++;
    if (!this.#typing) {
      this.#reset();
    }
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
      this.#reset();
    }
  }

  // A text that is refused stays, marked, until it is put right or given up.
  async #commit() {
    const text = this.element.value;
    if (!this.#typing || text === this.#sending) {
      return; // Enter, and leaving the field after it, save once
    }
    this.#sending = text;
    const shown = this.#shown;
    try {
      const value = this.#options.parse(text);
      if (value !== this.#value) {
        await this.#options.commit(value);
        if (this.#shown === shown) { // the row itself, on its way, is right in any case
          this.#value = value;
        }
      }
      if (this.element.value === text) { // else typing went on
        this.#reset();
      }
    } catch (error) {
      this.element.setAttribute("aria-invalid", "true");
      this.#options.fail(error);
    } finally {
      this.#sending = null;
    }
  }
}
