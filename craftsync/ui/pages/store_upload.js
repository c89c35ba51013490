// Files and folders, chosen or dropped anywhere on the page, are sent with one request each:
// NiceGUI's upload accepts no folders, and passes files through a form parser.
const AT_ONCE = 3;

async function filesBelow(entry, path, found) {
  if (entry.isFile) {
    found.push({ path, file: await new Promise((done, failed) => entry.file(done, failed)) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!batch.length) return;
    for (const one of batch) await filesBelow(one, `${path}/${one.name}`, found);
  }
}

export default {
  template: `
    <div class="uploads">
      <input ref="files" type="file" multiple hidden aria-label="Files" @change="chosen">
      <input ref="folder" type="file" webkitdirectory hidden aria-label="Folder" @change="chosen">
      <template v-if="count">
        <div class="line" role="status">
          <span>{{ done }} of {{ count }} files, {{ percent }} %<span v-if="rate">, {{ rate }} MiB/s</span></span>
          <a v-if="busy" href="#" role="button" @click.prevent="cancel">Cancel</a>
        </div>
        <progress v-if="busy" :value="percent" max="100" aria-label="Upload"></progress>
        <div v-for="failure in failures.slice(0, 20)" class="bad wrap" role="alert">{{ failure }}</div>
        <div v-if="failures.length > 20" class="bad">and {{ failures.length - 20 }} more</div>
      </template>
    </div>`,
  props: { at: String, folder: String, writable: Boolean },
  emits: ["chosen", "ended"],
  data: () => ({ waiting: [], requests: [], count: 0, done: 0, bytes: 0, sent: 0, busy: false, began: 0, failures: [], skipped: 0 }),
  computed: {
    percent() { return this.bytes ? Math.floor((100 * this.sent) / this.bytes) : this.busy ? 0 : 100; },
    rate() {
      const seconds = (performance.now() - this.began) / 1000;
      return this.busy && seconds > 1 ? (this.sent / seconds / 1048576).toFixed(1) : "";
    },
  },
  mounted() {
    window.addEventListener("dragover", this.over);
    window.addEventListener("dragleave", this.leave);
    window.addEventListener("drop", this.drop);
  },
  unmounted() {
    window.removeEventListener("dragover", this.over);
    window.removeEventListener("dragleave", this.leave);
    window.removeEventListener("drop", this.drop);
    this.cancel();
  },
  methods: {
    mark(on) { document.querySelector(".objects")?.classList.toggle("over", on); },
    over(event) {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.mark(true);
    },
    leave(event) { if (!event.relatedTarget) this.mark(false); },
    async drop(event) {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.mark(false);
      // Read all items now: after the first await, the browser has emptied the list.
      const items = [...event.dataTransfer.items].map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
      const found = [];
      for (const [entry, file] of items) {
        if (entry) await filesBelow(entry, entry.name, found);
        else if (file) found.push({ path: file.name, file });
      }
      this.offer(found);
    },
    chooseFiles() { this.$refs.files.click(); },
    chooseFolder() { this.$refs.folder.click(); },
    chosen(event) {
      this.offer([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
      event.target.value = "";
    },
    offer(found) {
      if (this.busy || !found.length) return;
      this.waiting = found;
      const names = [...new Set(found.map(({ path }) => path.split("/")[0]))];
      this.$emit("chosen", { count: found.length, bytes: found.reduce((sum, { file }) => sum + file.size, 0), names });
    },
    async start(replace) {
      Object.assign(this, { count: this.waiting.length, done: 0, sent: 0, skipped: 0, failures: [], busy: true, began: performance.now() });
      this.bytes = this.waiting.reduce((sum, { file }) => sum + file.size, 0);
      const queue = this.waiting.splice(0);
      const worker = async () => { while (queue.length && this.busy) await this.send(queue.shift(), replace); };
      await Promise.all(Array.from({ length: AT_ONCE }, worker));
      const left = this.busy ? 0 : this.count - this.done - this.skipped - this.failures.length;
      this.busy = false;
      this.$emit("ended", { done: this.done, skipped: this.skipped, failed: this.failures.length, left });
    },
    cancel() {
      this.busy = false;
      for (const request of this.requests.splice(0)) request.abort();
    },
    send({ path, file }, replace) {
      const place = this.folder ? `${this.folder}/${path}` : path;
      return new Promise((ended) => {
        const request = new XMLHttpRequest();
        let counted = 0;
        const count = (now) => { this.sent += now - counted; counted = now; };
        request.open("PUT", `/transfer/object?${new URLSearchParams({ at: this.at, path: place })}`);
        if (!replace) request.setRequestHeader("If-None-Match", "*");
        request.upload.onprogress = (event) => count(Math.min(event.loaded, file.size));
        request.onload = () => {
          count(file.size);
          if (request.status === 201) this.done += 1;
          else if (request.status === 412) this.skipped += 1;
          else this.failures.push(`${path}: ${request.responseText || request.statusText}`);
        };
        request.onerror = () => { count(file.size); this.failures.push(`${path}: could not be read or sent`); };
        request.onloadend = () => { this.requests.splice(this.requests.indexOf(request), 1); ended(); };
        this.requests.push(request);
        request.send(file);
      });
    },
  },
};
