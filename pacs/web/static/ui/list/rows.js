// A list of any length of which only what is in sight is in the document. All rows have one height, so that the scroll
// bar knows where each is before it has been fetched.

const BEYOND = 6; // rows kept ready above and below what is in sight
// Browsers lay out about 16 to 33 million pixels; a longer list is scrolled in proportion.
const TALLEST_PX = 12_000_000;
const SETTLED_MS = 120;

export class Rows {
  #drawn = new Map();
  #total = 0;
  #shift = 0;
  #viewPx = 0;
  #headPx = 0;
  #timer = 0;

  // scroller: what scrolls, with a head of rows that stays on top (or null). space: holds the rows. draw(index): element
  // of a row. onWindow(first, end): what is drawn now. onSettled(first, end): the same, once scrolling has paused.
  constructor({ scroller, head = null, space, rowPx, draw, onWindow = () => {}, onSettled = () => {}, signal }) {
    Object.assign(this, { scroller, head, space, rowPx, draw, onWindow, onSettled });
    scroller.addEventListener("scroll", () => this.#update(), { passive: true, signal });
    const watch = new ResizeObserver(() => this.#measure());
    watch.observe(scroller);
    if (head) watch.observe(head);
    signal?.addEventListener("abort", () => {
      watch.disconnect();
      clearTimeout(this.#timer);
    });
  }

  get total() {
    return this.#total;
  }

  // Rows that fit into the view.
  get page() {
    return Math.max(1, Math.floor(this.#viewPx / this.rowPx));
  }

  // The first row of which something is in sight.
  get top() {
    return Math.floor(this.#place() / this.rowPx);
  }

  // Another number or height of rows; what is drawn is drawn anew.
  reset(total, rowPx = this.rowPx) {
    this.#total = total;
    this.rowPx = rowPx;
    this.space.style.height = `${this.#heightPx()}px`;
    this.#clear();
    this.#measure();
  }

  refresh() {
    this.#clear();
    this.#update();
  }

  // Draw one row anew when it is in sight.
  redraw(index) {
    const old = this.#drawn.get(index);
    if (!old) return;
    const made = this.#make(index);
    old.replaceWith(made);
  }

  element(index) {
    return this.#drawn.get(index);
  }

  *drawn() {
    yield* this.#drawn;
  }

  scrollTo(index) {
    this.#go(index * this.rowPx);
  }

  // Scroll as little as it takes to have a row in sight.
  reveal(index) {
    const from = index * this.rowPx;
    const place = this.#place();
    if (from < place) this.#go(from);
    else if (from + this.rowPx > place + this.#viewPx) this.#go(from + this.rowPx - this.#viewPx);
    else this.#update();
  }

  #measure() {
    this.#headPx = this.head ? this.head.offsetHeight : 0;
    this.#viewPx = Math.max(0, this.scroller.clientHeight - this.#headPx);
    this.#update();
  }

  #heightPx() {
    return Math.min(this.#total * this.rowPx, TALLEST_PX);
  }

  // Pixels of the whole list that one pixel of the scroll bar's way stands for.
  #scale() {
    const way = this.#heightPx() - this.#viewPx;
    return way > 0 && this.#total * this.rowPx > TALLEST_PX ? (this.#total * this.rowPx - this.#viewPx) / way : 1;
  }

  #place() {
    return this.scroller.scrollTop * this.#scale();
  }

  #go(place) {
    this.scroller.scrollTop = Math.max(0, place) / this.#scale();
    this.#update();
  }

  #clear() {
    this.#drawn.clear();
    this.space.replaceChildren();
  }

  #make(index) {
    const made = this.draw(index);
    made.style.height = `${this.rowPx}px`;
    made.style.transform = `translateY(${index * this.rowPx + this.#shift}px)`;
    this.#drawn.set(index, made);
    return made;
  }

  #update() {
    const { scrollTop } = this.scroller;
    const place = this.#place();
    const first = Math.max(0, Math.floor(place / this.rowPx) - BEYOND);
    const end = Math.min(this.#total, Math.ceil((place + this.#viewPx) / this.rowPx) + BEYOND);
    const shift = scrollTop - place;
    for (const [index, element] of this.#drawn) {
      if (index < first || index >= end) {
        element.remove();
        this.#drawn.delete(index);
      } else if (shift !== this.#shift) element.style.transform = `translateY(${index * this.rowPx + shift}px)`;
    }
    this.#shift = shift;
    let next = null;
    for (let index = end - 1; index >= first; index -= 1) {
      let element = this.#drawn.get(index);
      if (!element) {
        element = this.#make(index);
        this.space.insertBefore(element, next); // in order: it is read in that order
      }
      next = element;
    }
    this.onWindow(first, end);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.onSettled(first, end), SETTLED_MS);
  }
}
