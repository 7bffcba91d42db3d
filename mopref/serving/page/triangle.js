// The triangle of three objectives: dragged by a pointer, moved by arrow keys. Python's simplex.py has the last word.
const svg = element.querySelector("svg");
const handle = element.querySelector(".handle");
const names = JSON.parse(svg.dataset.names);
const minimums = JSON.parse(svg.dataset.minimums);
const corners = JSON.parse(svg.dataset.corners);
const spare = 1 - minimums.reduce((sum, least) => sum + least, 0);
let weights = [...props.value];
let isDragged = false;
let told = 0;

function shown() {
  const [x, y] = [0, 1].map((axis) => weights.reduce((sum, w, i) => sum + w * corners[i][axis], 0));
  handle.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
  handle.setAttribute("aria-valuenow", Math.round(100 * weights[0]));
  handle.setAttribute("aria-valuetext", names.map((name, i) => `${name} ${Math.round(100 * weights[i])} percent`).join(", "));
}

function allowed(wanted) {
  const excess = wanted.map((w, i) => Math.max(0, w - minimums[i]));
  const total = excess.reduce((sum, part) => sum + part, 0);
  return total > 0 ? excess.map((part, i) => minimums[i] + (spare * part) / total) : weights;
}

function tell(isLast) {
  const now = Date.now();
  if (!isLast && now - told < 120) return;
  told = now;
  props.value = [...weights];
  trigger("input");
}

function at(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [[x0, y0], [x1, y1], [x2, y2]] = corners;
  const area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2);
  const first = ((y1 - y2) * (point.x - x2) + (x2 - x1) * (point.y - y2)) / area;
  const second = ((y2 - y0) * (point.x - x2) + (x0 - x2) * (point.y - y2)) / area;
  weights = allowed([first, second, 1 - first - second]);
  shown();
}

svg.addEventListener("pointerdown", (event) => {
  isDragged = true;
  svg.setPointerCapture(event.pointerId);
  handle.focus({ preventScroll: true });
  at(event);
  tell(false);
  event.preventDefault();
});
svg.addEventListener("pointermove", (event) => {
  if (!isDragged) return;
  at(event);
  tell(false);
});
for (const end of ["pointerup", "pointercancel"]) {
  svg.addEventListener(end, () => {
    if (isDragged) tell(true);
    isDragged = false;
  });
}

// Up and down give to the first objective and take from it; left and right shift between the other two.
const steps = { ArrowUp: [1, -0.5, -0.5], ArrowDown: [-1, 0.5, 0.5], ArrowLeft: [0, 1, -1], ArrowRight: [0, -1, 1] };
handle.addEventListener("keydown", (event) => {
  const step = steps[event.key];
  if (!step) return;
  event.preventDefault();
  const size = event.shiftKey ? 0.1 : 0.02;
  weights = allowed(weights.map((w, i) => w + size * step[i]));
  shown();
  tell(true);
});

watch("value", () => {
  if (isDragged) return;
  weights = [...props.value];
  shown();
});
shown();
