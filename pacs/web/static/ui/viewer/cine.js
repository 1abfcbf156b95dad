// Frames by the clock. A frame that is not there yet is waited for: none is left out.

export class Cine {
  // onChange: playing began or ended.
  constructor(port, { onChange, signal }) {
    this.port = port;
    this.rate = 0; // frames a second; 0: as the stack says
    this.onChange = onChange;
    this.signal = signal;
    this.timer = 0;
  }

  get isPlaying() {
    return this.timer !== 0;
  }

  get currentRate() {
    return this.rate || this.port.stack?.fps || 10;
  }

  toggle() {
    if (this.isPlaying) return this.stop();
    if (!(this.port.stack?.images.length > 1)) return;
    Object.assign(this.port, { isPlaying: true, direction: 1 });
    this.due = performance.now() + 1000 / this.currentRate;
    this.timer = requestAnimationFrame((now) => this.tick(now));
    this.onChange();
  }

  stop() {
    cancelAnimationFrame(this.timer);
    this.timer = 0;
    this.port.isPlaying = false;
    this.onChange();
  }

  tick(now) {
    const { port } = this;
    if (this.signal.aborted || !(port.stack?.images.length > 1)) return this.stop();
    this.timer = requestAnimationFrame((later) => this.tick(later));
    if (now < this.due || port.shown?.image !== port.image) return port.message.hidden ? undefined : this.stop();
    // On the beat, unless a frame was waited for.
    this.due = Math.max(this.due + 1000 / this.currentRate, now);
    port.go((port.index + 1) % port.stack.images.length);
  }
}
