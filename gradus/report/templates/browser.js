"use strict";
// The rollout browser and the readout of the charts. Text of models enters by textContent only.
(() => {
  const PER_PAGE = 25;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // ---- rollouts ----

  const { rows, prompts } = read("rollout-data");
  const form = document.getElementById("filters");
  let shown = rows;
  let page = 0;

  const outcome = (row) => (row.status && row.status !== "scored" ? row.status : row.correct ? "right" : "wrong");

  const card = (row) => {
    const box = make("article", "rollout");
    box.id = row.id;
    const head = make("p", "facts");
    const link = make("a", "", `step ${row.step}`);
    link.href = `#${row.id}`;
    head.append(link, make("span", `tag ${row.correct === true ? "right" : "wrong"}`, outcome(row)));
    for (const [name, value] of [["", row.problem_id], ["", row.domain], ["", row.bucket], ["reward", row.reward],
      ["advantage", typeof row.advantage === "number" ? row.advantage.toFixed(3) : row.advantage],
      ["tokens", row.num_tokens], ["finish", row.finish], ["policy", row.policy_step]]) {
      if (value !== null && value !== "" && value !== undefined) head.append(make("span", "", `${name} ${value}`.trim()));
    }
    const details = make("details");
    details.append(make("summary", "", "prompt"), make("pre", "prompt", prompts[row.prompt]));
    box.append(head, details, make("pre", "completion", row.completion));
    const foot = make("p", "parts");
    for (const [name, value] of row.parts) foot.append(make("span", "", `${name} ${value}`));
    if (row.why) foot.append(make("em", "", row.why));
    box.append(foot);
    return box;
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    document.getElementById("list").replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
    document.getElementById("count").textContent = `${shown.length} of ${rows.length} completions`;
    document.getElementById("page").textContent = `page ${page + 1} of ${pages}`;
    document.getElementById("previous").disabled = page === 0;
    document.getElementById("next").disabled = page === pages - 1;
  };

  const number = (text, other) => (text === "" || Number.isNaN(Number(text)) ? other : Number(text));

  const filter = () => {
    const of = (name) => form.elements[name].value;
    const first = number(of("first"), -Infinity), last = number(of("last"), Infinity);
    const low = number(of("low"), -Infinity), high = number(of("high"), Infinity);
    const hasReward = of("low") !== "" || of("high") !== "";
    const text = of("text");
    shown = rows.filter((row) =>
      row.step >= first && row.step <= last &&
      (of("domain") === "" || row.domain === of("domain")) &&
      (of("bucket") === "" || row.bucket === of("bucket")) &&
      (of("outcome") === "" || outcome(row) === of("outcome")) &&
      (!hasReward || (typeof row.reward === "number" && row.reward >= low && row.reward <= high)) &&
      (text === "" || row.completion.includes(text) || prompts[row.prompt].includes(text) || row.problem_id.includes(text)));
    const key = of("order");
    if (key !== "step") shown.sort((a, b) => (Number(b[key]) || 0) - (Number(a[key]) || 0));
    page = 0;
    draw();
  };

  const offer = (name, values) => {
    const select = form.elements[name];
    const distinct = [...new Set(values)].filter((value) => typeof value === "string" && value !== "").sort();
    for (const value of distinct) {
      const option = make("option", "", value);
      option.value = value;
      select.append(option);
    }
    select.parentElement.hidden = distinct.length < 2;
  };

  const follow = () => {
    const place = rows.findIndex((row) => `#${row.id}` === location.hash);
    if (place < 0) return;
    form.reset();
    setTimeout(() => { // after what the reset event sets off
      page = Math.floor(place / PER_PAGE);
      draw();
      const target = document.getElementById(rows[place].id);
      target.classList.add("target");
      target.scrollIntoView({ block: "center" });
    });
  };

  if (form) {
    offer("domain", rows.map((row) => row.domain));
    offer("bucket", rows.map((row) => row.bucket));
    offer("outcome", rows.map(outcome));
    for (const id of ["filters", "count", "pages"]) document.getElementById(id).hidden = false;
    document.getElementById("without-script").hidden = true;
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    document.getElementById("previous").addEventListener("click", () => { page -= 1; draw(); });
    document.getElementById("next").addEventListener("click", () => { page += 1; draw(); });
    addEventListener("hashchange", follow);
    draw();
    follow();
  }

  // ---- charts: the values under the pointer ----

  const data = read("cursor-data");

  const show = (value, isShare) => (isShare ? `${(100 * value).toFixed(1)} %` : String(Number(value.toPrecision(4))));

  const nearest = (xs, x) => {
    let best = 0;
    for (let i = 1; i < xs.length; i += 1) if (Math.abs(xs[i] - x) < Math.abs(xs[best] - x)) best = i;
    return best;
  };

  for (const figure of document.querySelectorAll("[data-figure]")) {
    const { series = [], is_share: isShare } = data[figure.dataset.figure] || {};
    const chart = figure.querySelector("svg.chart");
    const readout = figure.querySelector("[data-readout]");
    const line = chart.querySelector(".cursor");
    const rest = readout.textContent;
    const [left, right, low, high, isLog] = chart.dataset.box.split(" ").map(Number);
    const scale = (x) => (isLog ? Math.log2(x) : x);
    const longest = series.reduce((a, b) => (b.x.length > a.length ? b.x : a), []);
    if (longest.length === 0) continue;
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const inside = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const share = Math.min(1, Math.max(0, (inside - left) / (right - left)));
      const at = scale(low) + share * (scale(high) - scale(low));
      const x = longest[nearest(longest.map(scale), at)];
      const place = left + ((scale(x) - scale(low)) / (scale(high) - scale(low) || 1)) * (right - left);
      line.setAttribute("x1", place);
      line.setAttribute("x2", place);
      line.classList.add("on");
      const parts = series.filter((one) => one.x.length > 0).map((one) => {
        const value = show(one.y[nearest(one.x, x)], isShare);
        return series.length > 1 ? `${one.name} ${value}` : value;
      });
      readout.textContent = `${x}: ${parts.join(" · ")}`;
    });
    chart.addEventListener("pointerleave", () => { line.classList.remove("on"); readout.textContent = rest; });
  }
})();
