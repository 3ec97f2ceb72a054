// The charts of an evaluation, drawn with Chart.js from the numbers in the page; they follow the page's colours.
(async () => {
  "use strict";
  const $ = name => document.getElementById(`charts-${name}`), source = $("content");
  if (!source || typeof DecompressionStream === "undefined") return;
  const content = JSON.parse(source.textContent), script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await inflate($("library").textContent)); // allowed by its hash
  document.head.append(script);
  $("box").hidden = false; $("state").hidden = true;
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const say = value => Number(value.toPrecision(4)).toString().replace("-", "\u2212");
  const charts = [];
  function axis(title) {
    return { title: { display: Boolean(title), text: title, color: colour("--ink") }, ticks: { color: colour("--soft") }, grid: { color: colour("--line") } };
  }
  function scatter() {
    const small = content.series.map(one => ({ label: one.method, data: one.points, backgroundColor: `${colour(one.colour)}99`, borderWidth: 0, pointRadius: 4, pointHoverRadius: 7 }));
    const large = content.series.map(one => ({ label: one.method, data: one.mean ? [one.mean] : [],
      backgroundColor: colour(one.colour), borderColor: colour("--ink"), borderWidth: 1.5, pointRadius: 9, pointHoverRadius: 11 }));
    return new Chart($("scatter"), { type: "scatter", data: { datasets: [...large, ...small] }, options: {
      animation: false, maintainAspectRatio: false, scales: { x: axis(content.x), y: axis(content.y) },
      onClick: (event, found) => {
        const point = found.length ? found[0].element.$context.raw : null, place = point && document.getElementById(point.place);
        if (place) { place.open = true; place.scrollIntoView(); }
      },
      plugins: {
        legend: { labels: { color: colour("--ink"), filter: item => item.datasetIndex < large.length },
          onClick: (event, item, legend) => { // the mean and the cases of a method together
            const chart = legend.chart, shown = !chart.isDatasetVisible(item.datasetIndex);
            for (const n of [item.datasetIndex, item.datasetIndex + large.length]) chart.setDatasetVisibility(n, shown);
            chart.update();
          } },
        tooltip: { callbacks: { label: ({ dataset, raw }) => `${dataset.label}, ${raw.case}: ${say(raw.x)}, ${say(raw.y)}` } },
      } } });
  }
  const interval = { id: "interval", afterDatasetsDraw(chart) {
    const ink = chart.ctx, across = chart.scales.x, bars = content.bars[$("measure").value].bars;
    ink.save(); ink.strokeStyle = colour("--ink"); ink.lineWidth = 1.5; ink.beginPath();
    chart.getDatasetMeta(0).data.forEach((bar, n) => {
      if (!bars[n].interval) return;
      const [low, high] = bars[n].interval.map(value => across.getPixelForValue(value));
      for (const [x0, y0, x1, y1] of [[low, bar.y, high, bar.y], [low, bar.y - 5, low, bar.y + 5], [high, bar.y - 5, high, bar.y + 5]]) { ink.moveTo(x0, y0); ink.lineTo(x1, y1); }
    });
    ink.stroke(); ink.restore();
  } };
  function bars() {
    const { bars: own, title } = content.bars[$("measure").value], ends = own.flatMap(bar => bar.interval || [bar.mean]);
    return new Chart($("bars"), { type: "bar", plugins: [interval],
      data: { labels: own.map(bar => bar.method), datasets: [{ data: own.map(bar => bar.mean), backgroundColor: own.map(bar => colour(bar.colour)), maxBarThickness: 34 }] },
      options: { animation: false, maintainAspectRatio: false, indexAxis: "y", scales: { x: { ...axis(title), suggestedMax: Math.max(...ends), suggestedMin: Math.min(0, ...ends) }, y: axis("") },
        plugins: { legend: { display: false }, tooltip: { callbacks: { label: ({ dataIndex }) => {
          const bar = own[dataIndex];
          return `${say(bar.mean)}${bar.interval ? `, 95 %: ${say(bar.interval[0])} to ${say(bar.interval[1])}` : ""}`;
        } } } } } });
  }
  function draw() {
    while (charts.length) charts.pop().destroy();
    if ($("scatter")) charts.push(scatter());
    if ($("bars")) charts.push(bars());
    document.body.dataset.charts = String(charts.length);
  }
  if ($("measure")) {
    content.bars.forEach((chart, n) => $("measure").append(Object.assign(document.createElement("option"), { textContent: chart.title, value: n })));
    $("measure").addEventListener("change", draw);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
