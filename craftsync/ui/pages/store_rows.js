// The rows of one level of a store. NiceGUI's tables hold every row, on the server and in the
// browser; this one has only the visible rows, and requests others when it is scrolled.
const AHEAD = 40;

export default {
  template: `
    <div class="objects">
      <div class="titles">
        <span><input type="checkbox" aria-label="Select all" :checked="total > 0 && selected >= total"
          @change="$emit('pick', { row: 0, how: $event.target.checked ? 'all' : 'none' })"></span>
        <button v-for="title in titles" :key="title.column" :class="title.classes" @click="$emit('sort', title.column)"
          :aria-label="'Sort by ' + title.name">{{ title.name }}
          <q-icon v-if="sort === title.column" :name="reverse ? 'arrow_downward' : 'arrow_upward'" aria-hidden="true" /></button>
      </div>
      <div class="body" ref="body" role="grid" tabindex="0" aria-label="Objects" aria-multiselectable="true"
        :aria-rowcount="total" :aria-activedescendant="current >= 0 ? 'row-' + current : null"
        @scroll.passive="look" @keydown="key">
        <div v-if="!total" class="nothing" role="row"><span role="gridcell">{{ nothing }}</span></div>
        <div role="rowgroup" :style="{ height: total * height + 'px' }">
          <div v-for="row in rows" :key="(row.folder ? '/' : '') + row.path" :id="'row-' + row.at" role="row" class="row"
            :class="{ folder: row.folder, selected: row.selected, current: row.at === current }"
            :aria-rowindex="row.at + 1" :aria-selected="row.selected" :style="{ top: row.at * height + 'px' }"
            @click="click(row, $event)" @dblclick="$emit('open', seen(row.at))">
            <span role="gridcell"><input type="checkbox" tabindex="-1" :checked="row.selected" :aria-label="row.name"
              @click.stop="toggle(row)"></span>
            <span role="gridcell" class="name"><q-icon :name="row.folder ? 'folder' : 'description'" aria-hidden="true" />
              <a :href="row.href" tabindex="-1" :title="row.name" @click.exact.prevent.stop="go(row)">{{ row.name }}</a></span>
            <span role="gridcell" class="num">{{ row.size }}</span>
            <span role="gridcell" class="time">{{ row.time }}</span>
          </div>
        </div>
      </div>
      <div class="foot" role="status">{{ foot }}</div>
    </div>`,
  props: { rows: Array, total: Number, selected: Number, sort: String, reverse: Boolean, foot: String, nothing: String },
  emits: ["window", "pick", "open", "sort", "command"],
  data() {
    return {
      current: -1, since: 0, height: 28, asked: "",
      titles: [
        { column: "name", name: "Name", classes: "" },
        { column: "size", name: "Size", classes: "num" },
        { column: "time", name: "Modified", classes: "when" },
      ],
    };
  },
  mounted() {
    this.height = matchMedia("(max-width: 599px)").matches ? 36 : 28;
    window.addEventListener("keydown", this.anywhere);
    window.addEventListener("resize", this.look);
    this.look();
  },
  unmounted() {
    window.removeEventListener("keydown", this.anywhere);
    window.removeEventListener("resize", this.look);
  },
  methods: {
    look() {
      const body = this.$refs.body;
      const first = Math.floor(body.scrollTop / this.height);
      const start = Math.max(0, first - AHEAD);
      const end = first + Math.ceil(body.clientHeight / this.height) + AHEAD;
      if (this.asked === `${start} ${end}`) return;
      this.asked = `${start} ${end}`;
      this.$emit("window", { start, end });
    },
    // A row is sent with its path, because a listing under way may move it.
    seen(row) { return { row, path: this.rows.find((one) => one.at === row)?.path }; },
    top() {
      this.current = -1;
      this.$refs.body.scrollTop = 0;
      this.look();
    },
    go(row) {
      this.current = row.at;
      this.$emit("open", this.seen(row.at));
    },
    toggle(row) {
      this.current = this.since = row.at;
      this.$emit("pick", { ...this.seen(row.at), how: "toggle" });
    },
    click(row, event) {
      const how = event.shiftKey ? "range" : event.ctrlKey || event.metaKey ? "toggle" : "one";
      this.current = row.at;
      this.$emit("pick", { ...this.seen(row.at), how, since: this.since });
      if (how !== "range") this.since = row.at;
    },
    move(to, keep) {
      if (!this.total) return;
      this.current = Math.min(Math.max(to, 0), this.total - 1);
      const body = this.$refs.body, top = this.current * this.height;
      if (top < body.scrollTop) body.scrollTop = top;
      if (top + this.height > body.scrollTop + body.clientHeight) body.scrollTop = top + this.height - body.clientHeight;
      if (keep) this.$emit("pick", { ...this.seen(this.current), how: "range", since: this.since });
      else this.since = this.current;
    },
    key(event) {
      const page = Math.max(1, Math.floor(this.$refs.body.clientHeight / this.height) - 1);
      const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.total, End: this.total };
      const row = this.current;
      if (event.key in moves) this.move(row + moves[event.key], event.shiftKey);
      else if ((event.key === "Enter" || event.key === "ArrowRight") && row >= 0) this.$emit("open", this.seen(row));
      else if (event.key === "Backspace" || event.key === "ArrowLeft") this.$emit("command", { name: "up", row });
      else if (event.key === " " && row >= 0) this.$emit("pick", { ...this.seen(row), how: "toggle" });
      else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.$emit("pick", { row: 0, how: "all" });
      else if (event.key === "Escape") this.$emit("pick", { row: 0, how: "none" });
      else if (event.key === "Delete") this.$emit("command", { name: "delete", ...this.seen(row) });
      else if (event.key === "F2") this.$emit("command", { name: "rename", ...this.seen(row) });
      else return;
      event.preventDefault();
    },
    anywhere(event) {
      if (/INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
      if (event.key === "/") {
        document.querySelector("input[aria-label='Filter']")?.focus();
        event.preventDefault();
      } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
        this.$emit("command", { name: "undo", row: this.current });
        event.preventDefault();
      }
    },
  },
};
