'use strict';
(() => {
  const report = JSON.parse(document.getElementById('data').textContent);
  const $ = (id) => document.getElementById(id);

  // --- Elements: text goes in as text, never as markup: names come out of files -----------------

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : value);
    made.append(...children.flat().filter((child) => child !== undefined && child !== ''));
    return made;
  }
  const option = (value, text) => element('option', { value }, text);
  /// A name that may be broken after its underscores.
  const breakable = (name) => name.split(/(?<=_)/).flatMap((part, i) => i ? [document.createElement('wbr'), part] : [part]);
  const definitions = (attributes, pairs) =>
    element('dl', attributes, pairs.map(([name, value]) =>
      element('div', {}, element('dt', {}, name), element('dd', {}, value))));

  // --- Numbers and names ------------------------------------------------------------------------

  const percent = (share) => share === null || share === undefined ? '–' : (100 * share).toFixed(2);
  function short(value) {
    if (value === null || value === undefined) return '–';
    if (Array.isArray(value)) return value.map(short).join(', ') || '–';
    if (typeof value !== 'number') return String(value);
    if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(+value.toPrecision(5));
  }
  const optionText = (options) =>
    Object.entries(options).map(([name, value]) => `${name} = ${short(value)}`).join(', ');
  const sameDetector = (a, b) =>
    a.detector === b.detector && JSON.stringify(a.options) === JSON.stringify(b.options);
  const unique = (values) => [...new Set(values)];

  // --- What was evaluated, one entry for each detector -------------------------------------------

  const sets = unique(report.rows.map((row) => row.dataset));
  const kindOf = Object.fromEntries(report.rows.map((row) => [row.dataset, row.kind]));
  const kinds = ['near', 'far'].filter((kind) => report.means.some((mean) => mean.kind === kind));
  const names = report.timings.map((timing) => timing.detector);
  const entries = report.timings.map((timing, index) => {
    const twice = names.filter((name) => name === timing.detector).length > 1;
    const bySet = new Map(report.rows.filter((row) => sameDetector(row, timing)).map((row) => [row.dataset, row]));
    const rows = [...bySet.values()];
    return {
      index, timing,
      label: twice ? `${timing.detector} (${optionText(timing.options)})` : timing.detector,
      rows: bySet,
      means: new Map(report.means.filter((mean) => sameDetector(mean, timing)).map((mean) => [mean.kind, mean])),
      curves: new Map((report.curves ?? []).filter((curve) => sameDetector(curve, timing))
        .map((curve) => [curve.dataset, curve])),
      overall: rows.reduce((sum, row) => sum + row.auroc, 0) / rows.length,
      microseconds: 1e6 * timing.score_seconds / timing.scored_rows,
    };
  });
  const ranked = [...entries].sort((a, b) => b.overall - a.overall);
  ranked.forEach((entry, rank) => { entry.rank = rank; });

  // --- Colours -----------------------------------------------------------------------------------

  const kSeries = 10;
  const kDashes = [[], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [12, 4]];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const colourOf = (entry) => colour(`series-${entry.rank % kSeries}`);
  const dashOf = (entry) => kDashes[Math.floor(entry.rank / kSeries) % kDashes.length];
  const transparent = (hex, share) => hex + Math.round(255 * share).toString(16).padStart(2, '0');

  // --- Tables ------------------------------------------------------------------------------------

  /// columns: {label, small, text, cell(row), value(row), better: 'high' | 'low' | undefined}; those
  /// with a `value` can be sorted by, and `better` ones show the best in bold. `sorting` is kept.
  function fillTable(table, columns, rows, sorting) {
    const lines = rows.map((row) => ({
      row,
      line: element('tr', {}, columns.map((column, j) => {
        const values = rows.map((other) => column.value?.(other)).filter((value) => typeof value === 'number');
        const best = column.better === 'high' ? Math.max(...values) : Math.min(...values);
        const attributes = column.text ? { class: 'text' } :
          column.better && rows.length > 1 && column.value(row) === best ? { class: 'best' } : {};
        return j === 0 ? element('th', { scope: 'row' }, column.cell(row)) : element('td', attributes, column.cell(row));
      })),
    }));
    const heads = columns.map((column) => element('th', { scope: 'col', class: column.text && 'text' },
      column.value && sorting
        ? [element('button', { type: 'button' }, column.label), element('span', { class: 'on-paper' }, column.label)]
        : column.label,
      column.small ? element('small', {}, column.small) : ''));
    const body = element('tbody');

    function sort() {
      const column = columns[sorting.column];
      const sign = sorting.descending ? -1 : 1;
      const compare = (a, b) => typeof a === 'string' ? a.localeCompare(b) : (a ?? -Infinity) - (b ?? -Infinity);
      lines.sort((a, b) => sign * compare(column.value(a.row), column.value(b.row)) || a.row.index - b.row.index);
      heads.forEach((head, j) => {
        if (columns[j].value)
          head.setAttribute('aria-sort', j !== sorting.column ? 'none' : sorting.descending ? 'descending' : 'ascending');
      });
      body.append(...lines.map(({ line }) => line));
    }
    if (sorting) {
      heads.forEach((head, j) => head.querySelector('button')?.addEventListener('click', () => {
        sorting.descending = j === sorting.column ? !sorting.descending : columns[j].better === 'high';
        sorting.column = j;
        sort();
      }));
      sort();
    } else {
      body.append(...lines.map(({ line }) => line));
    }
    table.replaceChildren(element('thead', {}, element('tr', {}, heads)), body);
  }

  function nameCell(entry) {
    const options = Object.entries(entry.timing.options);
    if (options.length === 0) return breakable(entry.label);
    return element('details', {}, element('summary', {}, breakable(entry.label)),
      element('dl', {}, options.flatMap(([name, value]) =>
        [element('dt', {}, name), element('dd', {}, short(value))])));
  }

  const kMetrics = [
    { name: 'auroc', label: 'AUROC %', better: 'high', interval: true },
    { name: 'fpr95', label: 'FPR95 %', better: 'low' },
    { name: 'fpr95_ood', label: 'FPR95 %, outliers positive', better: 'low' },
    { name: 'aupr_in', label: 'AUPR in %', better: 'high' },
    { name: 'aupr_out', label: 'AUPR out %', better: 'high' },
  ];

  function metricColumn(metric, label, small, measured) {
    return {
      label, small, better: metric.better,
      value: (entry) => measured(entry)?.[metric.name],
      cell: (entry) => {
        const row = measured(entry);
        const interval = metric.interval && row && row.auroc_low !== null;
        return [percent(row?.[metric.name]),
          interval ? element('small', {}, `${percent(row.auroc_low)} – ${percent(row.auroc_high)}`) : ''];
      },
    };
  }

  const sorting = { column: 1, descending: true };
  function drawResults() {
    const metric = kMetrics.find(({ name }) => name === $('metric').value);
    const fpr = kMetrics[1];
    const kindColumns = (of) => kinds.map((kind) =>
      metricColumn(of, `${kind} mean`, of.label, (entry) => entry.means.get(kind)));
    const columns = [
      { label: 'Detector', value: (entry) => entry.label, cell: nameCell },
      ...kindColumns(metric),
      ...(metric.name === 'auroc' ? kindColumns(fpr) : []),
      ...sets.map((set) => metricColumn(metric, set, [kindOf[set], metric.label].filter(Boolean).join(', '),
        (entry) => entry.rows.get(set))),
    ];
    if (sorting.column >= columns.length) sorting.column = 1;
    sorting.descending = sorting.column > 0 && columns[sorting.column].better === 'high';
    fillTable($('results'), columns, entries, sorting);
    $('results-note').textContent = metric.interval
      ? 'Below a value: its 95 % interval (DeLong). Bold: the best of a column. A mean is the unweighted one over the sets of its kind.'
      : 'Bold: the best of a column. A mean is the unweighted one over the sets of its kind.';
    const counted = report.rows.filter((row) => row.bounds);
    if (counted.length > 0) {
      const farthest = Math.max(...counted.map((row) =>
        Math.max(...row.bounds[metric.name].map((bound) => Math.abs(bound - row[metric.name])))));
      $('results-note').textContent += ` From counts of scores in bins: ${unique(counted.map((row) => row.dataset)).join(', ')};`
        + ` ${metric.label} is within ±${+(100 * farthest).toPrecision(2)} of that of the scores themselves.`;
    }
  }

  function drawDetectors() {
    fillTable($('detectors'), [
      { label: 'Detector', value: (entry) => entry.label, cell: (entry) => breakable(entry.timing.detector) },
      { label: 'Fitted on', text: true, cell: ({ timing }) => timing.fitted_on + (timing.fell_back ? ' *' : '') },
      { label: 'Fit', small: 'seconds', value: ({ timing }) => timing.fit_seconds, cell: ({ timing }) => timing.fit_seconds.toFixed(2) },
      { label: 'Score', small: 'µs a row', value: (entry) => entry.microseconds, cell: (entry) => short(+entry.microseconds.toPrecision(3)) },
      { label: 'Options', text: true, cell: ({ timing }) => optionText(timing.options) || '–' },
    ], entries, { column: 0, descending: false });
    $('detectors-note').textContent = entries.some(({ timing }) => timing.fell_back)
      ? '* The file has not all the rows that the detector asks for; these were taken in their place.' : '';
  }

  function drawAgreement() {
    const table = $('agreement');
    const head = element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, 'Detector'),
      ranked.map((entry) => element('th', { scope: 'col' }, entry.label))));
    const body = element('tbody', {}, ranked.map((row) => element('tr', {},
      element('th', { scope: 'row' }, breakable(row.label)),
      ranked.map((column) => {
        const value = report.agreement[row.index][column.index];
        const cell = element('td', { class: value === null ? undefined : value < 0 ? 'negative' : 'positive' },
          value === null ? '–' : value.toFixed(2).replace('-', '−'));
        cell.style.setProperty('--strength', Math.abs(value ?? 0).toFixed(3));
        return cell;
      }))));
    table.replaceChildren(head, body);
  }

  // --- Diagnostics, searches, what was left out ---------------------------------------------------

  const warningList = (warnings) =>
    warnings.length ? element('ul', { class: 'warnings' }, warnings.map((text) => element('li', {}, text))) : '';

  function quantile(values, share) {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    if (sorted.length === 0) return null;
    const place = share * (sorted.length - 1), low = Math.floor(place);
    return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
  }

  function perClass(columns) {
    const named = Object.entries(columns);
    if (named.length === 0) return [];
    const summary = element('table'), whole = element('table');
    fillTable(summary, [
      { label: 'Per class', cell: ([name]) => breakable(name) },
      ...[['least', 0], ['median', 0.5], ['largest', 1]].map(([label, share]) =>
        ({ label, cell: ([, values]) => short(quantile(values, share)) })),
    ], named);
    fillTable(whole, [
      { label: 'Class', cell: (c) => String(c) },
      ...named.map(([name, values]) => ({ label: name, cell: (c) => short(values[c]) })),
    ], named[0][1].map((_, c) => c));
    return [element('div', { class: 'scroll' }, summary),
      element('details', {}, element('summary', {}, `All ${named[0][1].length} classes`),
        element('div', { class: 'scroll' }, whole))];
  }

  function drawFits() {
    $('fits').replaceChildren(...report.fits.map((fit) => element('article', { class: 'fit' },
      element('h3', {}, (entries.find((entry) => sameDetector(entry.timing, fit)) ?? { label: fit.detector }).label),
      warningList(fit.warnings),
      Object.keys(fit.values).length
        ? definitions({ class: 'values' }, Object.entries(fit.values).map(([name, value]) => [name, short(value)])) : '',
      perClass(fit.per_class))));
  }

  function drawSearches() {
    $('searches').replaceChildren(...report.searches.map((search) => {
      const parts = Object.keys(search.best.parts);
      const table = element('table');
      const isBest = (point) => JSON.stringify(point.options) === JSON.stringify(search.best.options);
      fillTable(table, [
        { label: 'Setting', cell: (point) => optionText(point.options) },
        { label: search.criterion, cell: (point) => isBest(point) ? element('strong', {}, short(point.value)) : short(point.value) },
        ...(parts.length > 1 ? parts.map((part) => ({ label: part, cell: (point) => short(point.parts[part]) })) : []),
        { label: '', text: true, cell: (point) => [isBest(point) ? 'best' : '', ...point.warnings].filter(Boolean).join('; ') },
      ], search.curve);
      const rows = (of) => `${of.rows} rows of ${of.source}`;
      return element('article', { class: 'fit' }, element('h3', {}, search.detector),
        element('p', { class: 'note' }, `Fitted on ${rows(search.fit)}, compared on ${rows(search.id)}`,
          search.outliers.map((of) => `, against ${rows(of)}`)),
        element('div', { class: 'scroll' }, table));
    }));
  }

  // --- Figures ------------------------------------------------------------------------------------

  const charts = {};
  const drawn = new Set(ranked.slice(0, 5));

  /// Sets or changes a chart, in the colours of the moment.
  function draw(id, config) {
    Chart.defaults.color = colour('ink');
    Chart.defaults.borderColor = colour('line');
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    charts[id]?.destroy();
    charts[id] = new Chart($(id), { ...config, options: { animation: false, maintainAspectRatio: false, ...config.options } });
  }
  const axis = (text, more = {}) => ({ title: { display: true, text }, grid: { color: colour('line') }, ...more });

  function drawRoc() {
    const set = $('set').value;
    const shown = ranked.filter((entry) => drawn.has(entry));
    const inPercent = { min: 0, max: 100, ticks: { stepSize: 20 } };
    draw('roc', {
      type: 'scatter',
      data: {
        datasets: [
          ...shown.map((entry) => {
            const { fpr, tpr } = entry.curves.get(set).roc;
            return {
              label: `${entry.label} ${percent(entry.rows.get(set).auroc)}`,
              data: fpr.map((x, i) => ({ x: 100 * x, y: 100 * tpr[i] })),
              borderColor: colourOf(entry), backgroundColor: colourOf(entry), borderDash: dashOf(entry),
              showLine: true, borderWidth: 2, pointRadius: 0, pointHitRadius: 6,
            };
          }),
          { label: 'chance', data: [{ x: 0, y: 0 }, { x: 100, y: 100 }], borderColor: colour('muted'),
            backgroundColor: colour('muted'), borderDash: [3, 4], showLine: true, borderWidth: 1, pointRadius: 0, pointHitRadius: 0 },
        ],
      },
      options: {
        scales: { x: axis('outliers accepted, %', inPercent), y: axis('in-distribution accepted, %', inPercent) },
        plugins: {
          legend: { position: 'bottom', labels: { boxWidth: 22, boxHeight: 0 } },
          tooltip: { callbacks: { label: ({ dataset, parsed }) =>
            `${dataset.label}: ${parsed.x.toFixed(1)} % of outliers at ${parsed.y.toFixed(1)} %` } },
        },
      },
    });
    $('roc-caption').textContent = `ROC curves on ${set}, with AUROC %`;
    $('roc').setAttribute('aria-label', `ROC curves on ${set}: ` +
      shown.map((entry) => `${entry.label} ${percent(entry.rows.get(set).auroc)} %`).join(', '));
  }

  function drawHistogram() {
    const set = $('set').value, entry = entries[Number($('detector').value)];
    const { low, high, id, ood } = entry.curves.get(set).histogram;
    const width = (high - low) / id.length, { n_id: nId, n_ood: nOod } = entry.rows.get(set);
    const edges = id.map((_, b) => low + b * width);
    // as many digits as tell neighbouring bins apart
    const digits = Math.min(15, Math.max(3, 1 + Math.ceil(Math.log10(Math.max(Math.abs(low), Math.abs(high)) / width))));
    const place = (x) => String(+x.toPrecision(digits)).replace('-', '−');
    const bars = (label, counts, rows, name) => ({
      label, data: counts.map((count) => 100 * count / rows),
      backgroundColor: transparent(colour(name), 0.5), borderColor: colour(name), borderWidth: 1,
      grouped: false, barPercentage: 1, categoryPercentage: 1,
    });
    draw('histogram', {
      type: 'bar',
      data: {
        labels: edges.map((edge) => place(edge + width / 2)),
        datasets: [bars('in-distribution', id, nId, 'series-0'), bars(set, ood, nOod, 'series-1')],
      },
      options: {
        scales: { x: axis(`score of ${entry.label}`, { grid: { display: false }, ticks: { maxTicksLimit: ({ chart }) => chart.width < 480 ? 5 : 9, maxRotation: 0 } }),
          y: axis('rows, %', { beginAtZero: true }) },
        interaction: { mode: 'index', intersect: false },
        plugins: {
          legend: { position: 'bottom', labels: { boxWidth: 14 } },
          tooltip: { callbacks: {
            title: ([{ dataIndex: b }]) => `${b === 0 ? '−∞' : place(edges[b])} to ${b === id.length - 1 ? '∞' : place(edges[b] + width)}`,
            label: ({ dataset, parsed }) => `${dataset.label}: ${parsed.y.toFixed(2)} %`,
          } },
        },
      },
    });
    $('histogram-caption').textContent = `Scores of ${entry.label}: in-distribution and ${set}`;
    $('histogram').setAttribute('aria-label', `Histograms of the scores of ${entry.label} on in-distribution rows and on ${set}; AUROC ${percent(entry.rows.get(set).auroc)} %`);
  }

  /// Writes names beside the points, the best first, where there is room.
  const pointNames = {
    id: 'pointNames',
    afterDatasetsDraw(chart) {
      const { ctx, chartArea } = chart, taken = [];
      const points = chart.getDatasetMeta(0).data.map((point, i) => ({ point, label: chart.data.datasets[0].data[i].label }));
      points.forEach(({ point }) => taken.push([point.x - 4, point.y - 4, point.x + 4, point.y + 4]));
      ctx.save();
      ctx.font = `12px ${Chart.defaults.font.family}`;
      ctx.fillStyle = Chart.defaults.color;
      ctx.textBaseline = 'middle';
      for (const { point, label } of points) {
        const wide = ctx.measureText(label).width;
        const places = [[7, 0], [-7 - wide, 0], [-wide / 2, -12], [-wide / 2, 12]];
        for (const [dx, dy] of places) {
          const box = [point.x + dx, point.y + dy - 6, point.x + dx + wide, point.y + dy + 6];
          const inside = box[0] >= chartArea.left && box[2] <= chartArea.right && box[1] >= chartArea.top && box[3] <= chartArea.bottom;
          if (!inside || taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
          ctx.fillText(label, box[0], point.y + dy);
          taken.push(box);
          break;
        }
      }
      ctx.restore();
    },
  };

  function drawTime() {
    const chosen = $('time-set');
    const of = (entry) => chosen.value.startsWith('mean:')
      ? entry.means.get(chosen.value.slice(5)) : entry.rows.get(chosen.value.slice(4));
    const points = ranked.map((entry) => ({ entry, label: entry.label, x: Math.max(entry.microseconds, 1e-3), y: 100 * of(entry).auroc }))
      .sort((a, b) => b.y - a.y);
    const what = chosen.selectedOptions[0].textContent;
    draw('time', {
      type: 'scatter',
      data: { datasets: [{ label: 'detectors', data: points, pointRadius: 5, pointHoverRadius: 7, backgroundColor: colour('accent'), borderColor: colour('accent') }] },
      options: {
        layout: { padding: { right: 12 } },
        scales: {
          x: axis('time to score a row, µs', { type: 'logarithmic', ticks: { maxRotation: 0, autoSkip: true, autoSkipPadding: 16, callback: (value) => /^[125]/.test(value.toExponential()) && Number.isInteger(+value.toExponential().split('e')[0]) ? short(value) : '' } }),
          y: axis(`AUROC of ${what}, %`, { grace: '8%' }),
        },
        plugins: {
          legend: { display: false },
          tooltip: { callbacks: { label: ({ raw }) => `${raw.label}: ${raw.y.toFixed(2)} %, ${short(+raw.x.toPrecision(3))} µs` } },
        },
      },
      plugins: [pointNames],
    });
    $('time').setAttribute('aria-label', `Time to score a row against AUROC of ${what}; the tables hold the numbers`);
  }

  function drawFigures() {
    if (report.curves?.length) {
      drawRoc();
      drawHistogram();
      for (const swatch of document.querySelectorAll('#drawn-list .swatch'))
        swatch.style.borderTopColor = colourOf(entries[Number(swatch.dataset.index)]);
    }
    if (report.rows.length) drawTime();
  }

  function fillDrawnList() {
    $('drawn-list').replaceChildren(...ranked.map((entry) => {
      const box = element('input', { type: 'checkbox', value: entry.index });
      box.checked = drawn.has(entry);
      box.addEventListener('change', () => {
        if (box.checked) drawn.add(entry); else drawn.delete(entry);
        drawRoc();
      });
      const swatch = element('span', { class: 'swatch', 'data-index': entry.index, 'aria-hidden': 'true' });
      swatch.style.borderTopColor = colourOf(entry);
      return element('label', {}, box, swatch, entry.label);
    }));
  }

  // --- The page -----------------------------------------------------------------------------------

  const fileName = report.file.split('/').pop();
  document.title = [report.model || fileName, report.id_dataset].filter(Boolean).join(', ') + ': out-of-distribution detection';
  $('title').textContent = report.model || fileName;
  const code = (text) => element('span', { class: 'code' }, text);
  const facts = [
    ['In-distribution', report.id_dataset],
    ['Accuracy', report.id_accuracy === null ? '' : `${percent(report.id_accuracy)} %`],
    ['Test rows', report.rows.length ? String(report.rows[0].n_id) : ''],
    ['Outliers', sets.map((set) => `${set} ${report.rows.find((row) => row.dataset === set).n_ood}`).join(', ')],
    ['File', code(fileName)],
    ['Fingerprint (XXH3)', report.fingerprint ? code(report.fingerprint) : ''],
    ['libood', report.version],
  ].filter(([, value]) => value);
  $('facts').replaceWith(definitions({ id: 'facts' }, facts));
  $('footer').textContent = `Made by libood ${report.version} with Chart.js ${Chart.version} (MIT licence).`;
  $('warnings').append(
    ...report.searches.flatMap((search) => search.best.warnings.map((text) => element('li', {}, `${search.detector} (search): ${text}`))),
    ...report.fits.flatMap((fit) => fit.warnings.map((text) => element('li', {}, `${fit.detector}: ${text}`))));

  $('metric').append(...kMetrics.map(({ name, label }) => option(name, label.replace(' %', ''))));
  $('set').append(...sets.map((set) => option(set, kindOf[set] ? `${set} (${kindOf[set]})` : set)));
  $('detector').append(...ranked.map((entry) => option(entry.index, entry.label)));
  $('time-set').append(...kinds.map((kind) => option(`mean:${kind}`, `${kind} mean`)), ...sets.map((set) => option(`set:${set}`, set)));

  const has = {
    'results-section': report.rows.length > 0,
    'curves-section': Boolean(report.curves?.length),
    'time-section': report.rows.length > 0,
    'agreement-section': Boolean(report.agreement) && entries.length > 1,
    'fits-section': report.fits.length > 0,
    'searches-section': report.searches.length > 0,
    'detectors-section': entries.length > 0,
    'left-out-section': report.left_out.length > 0,
  };
  for (const [id, shown] of Object.entries(has)) $(id).hidden = !shown;

  if (has['results-section']) drawResults();
  if (has['detectors-section']) drawDetectors();
  if (has['agreement-section']) drawAgreement();
  drawFits();
  drawSearches();
  fillTable($('left-out'), [{ label: 'Detector', cell: (left) => breakable(left.detector) },
    { label: 'Reason', text: true, cell: (left) => left.reason }], report.left_out);
  if (has['curves-section']) fillDrawnList();
  drawFigures();

  $('metric').addEventListener('change', drawResults);
  $('set').addEventListener('change', () => { drawRoc(); drawHistogram(); });
  $('detector').addEventListener('change', drawHistogram);
  $('time-set').addEventListener('change', drawTime);
  const choose = (chosen) => {
    drawn.clear();
    chosen.forEach((entry) => drawn.add(entry));
    fillDrawnList();
    drawRoc();
  };
  $('drawn-best').addEventListener('click', () => {
    const auroc = (entry) => entry.rows.get($('set').value).auroc;
    choose([...entries].sort((a, b) => auroc(b) - auroc(a)).slice(0, 5));
  });
  $('drawn-none').addEventListener('click', () => choose([]));

  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawFigures);

  // On paper: light colours, and tables shrunk to the width of a page rather than cut off.
  const kPageWidth = 1030;  // A4 landscape less margins, in CSS pixels
  addEventListener('beforeprint', () => {
    document.documentElement.classList.add('paper');
    for (const table of document.querySelectorAll('.scroll > table'))
      table.style.zoom = Math.min(1, kPageWidth / table.scrollWidth);
    drawFigures();
  });
  addEventListener('afterprint', () => {
    document.documentElement.classList.remove('paper');
    for (const table of document.querySelectorAll('.scroll > table')) table.style.zoom = '';
    drawFigures();
  });
})();
