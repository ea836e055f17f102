"use strict";
// Charts as SVG: hover, zoom, logarithmic scale, smoothing. Charts of one x axis share the first two.
const Charts = (() => {
  const HEIGHT = 208, LEFT = 56, RIGHT = 10, TOP = 8, BOTTOM = 22;
  const views = {};  // by the name of the x axis
  const look = { log: false, smooth: 0 };

  function add(parent, name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  }
  const whole = (v) => v.toLocaleString("en-US", { maximumFractionDigits: 0 });
  function short(v) {
    if (v === null || v === undefined) return "–";
    const size = Math.abs(v);
    if (size && (size < 1e-3 || size >= 1e6)) return v.toExponential(2).replace(/\.?0*e\+?/, "e");
    return Number(v.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 6 });
  }
  function ticks(low, high, count) {
    const rough = (high - low) / count, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough);
    const first = Math.ceil(low / step), found = [];
    for (let i = 0; i <= 3 * count && (first + i) * step <= high + step / 1e6; i++)
      found.push(Number(((first + i) * step).toPrecision(12)));
    return found;
  }
  function logTicks(low, high) {
    const found = [], wide = Math.log10(high / low) > 2.5;
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high) && found.length < 40; e++)
      for (const m of wide ? [1] : [1, 2, 5]) found.push(m * 10 ** e);
    const inside = found.filter((t) => t >= low && t <= high);
    return inside.length > 1 ? inside : ticks(low, high, 4).filter((t) => t > 0);
  }
  function smoothed(y, weight) {  // an average that forgets, without the bias of its start
    let sum = 0, total = 0;
    return y.map((v) => {
      if (v === null) return null;
      [sum, total] = [weight * sum + (1 - weight) * v, weight * total + 1 - weight];
      return sum / total;
    });
  }
  function nearest(xs, x) {
    let [low, high] = [0, xs.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  }

  class Chart {
    constructor(figure, spec) {
      this.spec = spec;
      this.view = views[spec.x] ??= { range: null, cursor: null, charts: [] };
      this.view.charts.push(this);
      this.hidden = new Set();
      this.svg = figure.querySelector("svg");
      this.buttons = [...figure.querySelectorAll(".legend button")];
      this.at = figure.querySelector(".at");
      this.buttons.forEach((button, i) => button.addEventListener("click", () => {
        this.hidden.has(i) ? this.hidden.delete(i) : this.hidden.add(i);
        button.setAttribute("aria-pressed", !this.hidden.has(i));
        this.draw();
      }));
      for (const name of ["pointerdown", "pointermove", "pointerup", "pointerleave", "keydown"])
        this.svg.addEventListener(name, (event) => this[name](event));
      this.svg.addEventListener("dblclick", () => this.zoom(null));
      new ResizeObserver(() => this.draw()).observe(figure);
    }
    extent() {
      const all = this.spec.series.flatMap((s) => s.x.length ? [s.x[0], s.x[s.x.length - 1]] : []);
      const [low, high] = [Math.min(...all), Math.max(...all)];
      return high > low ? [low, high] : [low - 1, high + 1];
    }
    draw() {
      const width = this.svg.clientWidth, { series, marks } = this.spec;
      if (!width) return;
      const shown = series.map((s, i) => ({ ...s, i })).filter((s) => !this.hidden.has(s.i));
      const [x0, x1] = this.range = this.view.range ?? this.extent();
      const usable = (v) => v !== null && v !== undefined && (!look.log || v > 0);
      let [y0, y1] = [Infinity, -Infinity];
      const reach = (v) => { if (usable(v)) { y0 = Math.min(y0, v); y1 = Math.max(y1, v); } };
      for (const s of shown) {
        s.x.forEach((x, k) => {
          if (x >= x0 && x <= x1) [s.y, s.low, s.high].forEach((each) => each && reach(each[k]));
        });
        reach(s.floor);
      }
      if (y0 > y1) [y0, y1] = look.log ? [1, 10] : [0, 1];
      if (y0 === y1) [y0, y1] = look.log ? [y0 / 2, y1 * 2] : [y0 - (Math.abs(y0) || 1) / 2, y1 + (Math.abs(y1) || 1) / 2];
      const f = look.log ? Math.log : (v) => v, pad = look.log ? 0 : (y1 - y0) * 0.04;
      const px = this.px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (width - LEFT - RIGHT);
      const py = this.py = (y) => HEIGHT - BOTTOM - ((f(y) - f(y0 - pad)) / (f(y1 + pad) - f(y0 - pad))) * (HEIGHT - TOP - BOTTOM);
      const points = (xs, ys) => {
        let pen = "M";
        return xs.map((x, k) => {
          if (!usable(ys[k])) { pen = "M"; return ""; }
          const part = `${pen}${px(x).toFixed(1)} ${py(ys[k]).toFixed(1)}`;
          pen = "L";
          return part;
        }).join("");
      };
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      const clip = `clip-${this.spec.id}`;
      add(add(this.svg, "clipPath", { id: clip }), "rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT, height: HEIGHT - BOTTOM + 1 });
      for (const y of look.log ? logTicks(y0, y1) : ticks(y0 - pad, y1 + pad, 4)) {
        add(this.svg, "line", { x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y), class: "grid" });
        add(this.svg, "text", { x: LEFT - 6, y: py(y) + 4, class: "tick end" }, short(y));
      }
      for (const x of ticks(x0, x1, Math.max(3, width / 80)))
        add(this.svg, "text", { x: Math.min(px(x), px(x) > width - 24 ? width : width - 24), y: HEIGHT - 6, class: px(x) > width - 24 ? "tick end" : "tick middle" }, x1 - x0 > 20 ? whole(x) : short(x));
      const inner = add(this.svg, "g", { "clip-path": `url(#${clip})` });
      for (const s of shown) {
        const color = `c${s.color}`, dash = s.dashed ? " dashed" : "";
        const band = (low, high) => {
          const back = [...s.x.keys()].reverse();
          const d = points(s.x, low) + points(back.map((k) => s.x[k]), back.map((k) => high[k])).replace("M", "L");
          if (!d.includes("NaN")) add(inner, "path", { d: d && `${d}Z`, class: `band ${color}` });
        };
        if (s.low && s.high && s.x.length > 1) band(s.low, s.high);
        if (usable(s.floor)) add(inner, "line", { x1: LEFT, x2: width, y1: py(s.floor), y2: py(s.floor), class: `floor ${color}` });
        const soft = look.smooth > 0 && s.x.length > 3;
        add(inner, "path", { d: points(s.x, s.y), class: `line ${color}${dash}${soft ? " raw" : ""}` });
        if (soft) add(inner, "path", { d: points(s.x, smoothed(s.y, look.smooth)), class: `line ${color}${dash}` });
        if (s.x.length <= 30) s.x.forEach((x, k) => {
          if (!usable(s.y[k])) return;
          if (s.low && usable(s.low[k])) add(inner, "line", { x1: px(x), x2: px(x), y1: py(s.low[k]), y2: py(s.high[k]), class: `line ${color}` });
          add(inner, "circle", { cx: px(x), cy: py(s.y[k]), r: 2.5, class: `dot ${color}` });
        });
      }
      for (const mark of marks) if (mark.x >= x0 && mark.x <= x1) {
        add(inner, "line", { x1: px(mark.x), x2: px(mark.x), y1: TOP, y2: HEIGHT, class: "mark" });
        add(add(this.svg, "path", { d: `M${px(mark.x)} ${HEIGHT - BOTTOM - 8}l6 10h-12z`, class: "alarm" }), "title", {}, mark.text);
      }
      this.cursor = add(this.svg, "line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" });
      this.box = add(this.svg, "rect", { y: TOP, height: HEIGHT - TOP - BOTTOM, class: "box", width: 0 });
      this.point();
    }
    point() {
      const x = this.view.cursor, on = x !== null && x >= this.range[0] && x <= this.range[1];
      this.cursor.setAttribute("x1", on ? this.px(x) : -9);
      this.cursor.setAttribute("x2", on ? this.px(x) : -9);
      this.at.textContent = on ? `${this.spec.x} ${short(x).includes("e") ? short(x) : Number.isInteger(x) ? whole(x) : short(x)}` : this.spec.x === "step" ? "last value" : "";
      this.spec.series.forEach((s, i) => {
        const k = on ? nearest(s.x, x) : this.spec.x === "step" ? s.y.findLastIndex((v) => v !== null) : -1;
        const range = s.low && k >= 0 && s.low[k] !== null ? ` (${short(s.low[k])} to ${short(s.high[k])})` : "";
        this.buttons[i].querySelector("output").textContent = k < 0 ? "" : short(s.y[k]) + range;
      });
    }
    where(event) {
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      const [x0, x1] = this.range, width = this.svg.clientWidth;
      return Math.min(x1, Math.max(x0, x0 + ((x - LEFT) / (width - LEFT - RIGHT)) * (x1 - x0)));
    }
    move(x) {  // the cursor, of every chart of this axis, to a step that has a value
      const longest = this.spec.series.reduce((a, b) => (b.x.length > a.x.length ? b : a));
      this.view.cursor = x === null || !longest.x.length ? null : longest.x[nearest(longest.x, x)];
      this.view.charts.forEach((chart) => chart.svg.clientWidth && chart.cursor && chart.point());
    }
    zoom(range) {
      this.view.range = range;
      this.view.charts.forEach((chart) => chart.draw());
    }
    pointerdown(event) { if (event.button === 0 && event.pointerType !== "touch") this.from = this.where(event); }
    pointermove(event) {
      const x = this.where(event);
      if (this.from !== undefined) {
        const [a, b] = [this.px(this.from), this.px(x)].sort((p, q) => p - q);
        this.box.setAttribute("x", a);
        this.box.setAttribute("width", b - a);
      }
      this.move(x);
    }
    pointerup(event) {
      const to = this.where(event), from = this.from ?? to;
      this.from = undefined;
      this.box.setAttribute("width", 0);
      if (Math.abs(this.px(to) - this.px(from)) > 6) this.zoom([Math.min(from, to), Math.max(from, to)]);
    }
    pointerleave() { this.from = undefined; this.box.setAttribute("width", 0); this.move(null); }
    keydown(event) {
      const [x0, x1] = this.range, longest = this.spec.series.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
      const now = this.view.cursor ?? x1, k = nearest(longest, now), by = event.shiftKey ? 10 : 1;
      const at = (i) => this.move(longest[Math.max(0, Math.min(longest.length - 1, i))]);
      const scale = (factor) => this.zoom([now - (now - x0) * factor, now + (x1 - now) * factor]);
      const actions = {
        ArrowLeft: () => at(k - by), ArrowRight: () => at(k + by), Home: () => at(0), End: () => at(longest.length - 1),
        "+": () => scale(0.5), "=": () => scale(0.5), "-": () => scale(2), Escape: () => { this.move(null); this.zoom(null); }, 0: () => this.zoom(null),
      };
      if (!actions[event.key] || !longest.length || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      actions[event.key]();
    }
  }
  const all = [];
  return {
    make(figure, spec) { all.push(new Chart(figure, spec)); },
    look(change) { Object.assign(look, change); all.forEach((chart) => chart.draw()); },
    reset() { for (const name in views) { views[name].range = null; views[name].charts.forEach((chart) => chart.draw()); } },
  };
})();
