// A page opened as a file may not start a worker: search then runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      const inside = this.frame.contentWindow;
      const deliver = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      inside.importScripts = (...sources) =>
        sources.reduce(
          (before, src) =>
            before.then(
              () =>
                new Promise((resolve, reject) => {
                  const script = inside.document.createElement("script");
                  Object.assign(script, { src, onload: resolve, onerror: reject });
                  inside.document.body.appendChild(script);
                }),
            ),
          Promise.resolve(),
        );
      inside.postMessage = (data) => deliver(data);
      this.inside = inside;
      this.ready = inside.importScripts(new URL(url, document.baseURI).href);
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
