// SPDX-License-Identifier: GPL-2.0-or-later
// Graphs over time, drawn as SVG: lines with a light area, a grid with figures, and the values under the pointer.
import { useEffect, useRef, useState } from 'preact/hooks';
import { moment } from '../format';

export interface Series {
  name: string;
  color: 1 | 2 | 3;
  values: readonly number[]; // NaN: not known, a gap
}

interface ChartProps {
  title: string;
  times: readonly number[];
  series: Series[];
  format: (n: number) => string;
  span: number; // ms that the width is in the end; while there is less, it is less
  ceiling?: number; // the scale goes at least so far
  binary?: boolean; // steps of 1024
}

const HEIGHT = 148;
const LEFT = 4;
const BOTTOM = 18;
const TOP = 8;
const SHORTEST = 60_000; // ms

/** The next round number that is not below: what a scale ends with. */
export function roundUp(n: number, binary: boolean): number {
  if (n <= 0) return 1;
  const base = binary ? 1024 : 10;
  const power = base ** Math.floor(Math.log(n) / Math.log(base));
  const steps = binary ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] : [1, 2, 2.5, 5, 10];
  return (steps.find((s) => s * power >= n * 0.999) ?? base) * power;
}

function useWidth<T extends Element>() {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watch = new ResizeObserver((e) => setWidth(Math.floor(e[0]?.contentRect.width ?? 0)));
    if (ref.current) watch.observe(ref.current);
    return () => watch.disconnect();
  }, []);
  return { ref, width };
}

export function Chart({ title, times, series, format, span: longest, ceiling, binary = false }: ChartProps) {
  const { ref, width } = useWidth<HTMLDivElement>();
  const [at, setAt] = useState<number | null>(null); // index under the pointer
  const most = series.reduce((m, s) => s.values.reduce((n, v) => (v > n ? v : n), m), 0);
  const top = Math.max(roundUp(most, binary), ceiling ?? 0);
  const end = times.at(-1) ?? Date.now();
  const span = Math.min(longest, Math.max(SHORTEST, end - (times[0] ?? end)));
  const x = (time: number) => LEFT + (1 - (end - time) / span) * (width - 2 * LEFT);
  const y = (value: number) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  const shown = times.findIndex((t) => t >= end - span);
  const first = series[0]?.values ?? [];
  let known = first.length - 1;
  while (known >= 0 && Number.isNaN(first[known]!)) known--;
  const latest = at !== null && at < times.length ? at : known;
  const figure = (v: number | undefined) => (v === undefined || Number.isNaN(v) ? 'not known' : format(v));

  /* Pieces between gaps, each a list of points. */
  const pieces = (values: readonly number[]) => {
    const all: string[][] = [];
    for (let i = Math.max(0, shown); i < values.length; i++) {
      if (Number.isNaN(values[i]!)) continue;
      if (i === shown || !all.length || Number.isNaN(values[i - 1]!)) all.push([]);
      all.at(-1)!.push(`${x(times[i]!).toFixed(1)} ${y(values[i]!).toFixed(1)}`);
    }
    return all;
  };
  // A point between two gaps is a dot: a line of no length with round ends.
  const line = (values: readonly number[]) => pieces(values).map((p) => `M${p.join('L')}${p.length > 1 ? '' : 'h0'}`).join('');
  const area = (values: readonly number[]) =>
    pieces(values)
      .map((p) => `M${p.join('L')}L${p.at(-1)!.split(' ')[0]} ${y(0)}L${p[0]!.split(' ')[0]} ${y(0)}Z`)
      .join('');

  const point = (e: PointerEvent) => {
    const box = (e.currentTarget as Element).getBoundingClientRect();
    const time = end - (1 - (e.clientX - box.left - LEFT) / (width - 2 * LEFT)) * span;
    let best = -1;
    for (let i = Math.max(0, shown); i < times.length; i++)
      if (best < 0 || Math.abs(times[i]! - time) < Math.abs(times[best]! - time)) best = i;
    setAt(best < 0 ? null : best);
  };

  const values = series.map((s) => `${s.name} ${latest >= 0 ? figure(s.values[latest]) : 'not known yet'}`).join(', ');
  return (
    <figure class="chart">
      <figcaption>
        <h2>{title}</h2>
        <span class="legend">
          {series.map((s) => (
            <span key={s.name}>
              <i class={`swatch c${s.color}`} aria-hidden="true" />
              {series.length > 1 && <span class="muted">{s.name}</span>}
              <b>{latest >= 0 && !Number.isNaN(s.values[latest]!) ? format(s.values[latest] ?? 0) : '–'}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={ref} class="plot">
        {width > 0 && (
          <svg
            width={width}
            height={HEIGHT}
            role="img"
            aria-label={`${title}: ${values}`}
            onPointerMove={point}
            onPointerLeave={() => setAt(null)}
          >
            {[0, 0.5, 1].map((f) => (
              <g key={f}>
                <line class="grid" x1={LEFT} x2={width - LEFT} y1={y(top * f)} y2={y(top * f)} />
                {f > 0 && (
                  <text x={LEFT + 2} y={y(top * f) + 12}>
                    {format(top * f)}
                  </text>
                )}
              </g>
            ))}
            <text x={LEFT + 2} y={HEIGHT - 3}>
              {moment(end - span, span)}
            </text>
            <text x={width - LEFT - 2} y={HEIGHT - 3} text-anchor="end">
              {moment(at !== null && times[latest] ? times[latest]! : end, span)}
            </text>
            {times.length - shown > 1 &&
              series.map((s) => (
                <g key={s.name} class={`c${s.color}`}>
                  <path class="area" d={area(s.values)} />
                  <path class="line" d={line(s.values)} />
                </g>
              ))}
            {at !== null && times[latest] !== undefined && (
              <g>
                <line class="cross" x1={x(times[latest]!)} x2={x(times[latest]!)} y1={TOP} y2={y(0)} />
                {series.filter((s) => !Number.isNaN(s.values[latest]!)).map((s) => (
                  <circle key={s.name} class={`c${s.color}`} cx={x(times[latest]!)} cy={y(s.values[latest] ?? 0)} r="3" />
                ))}
              </g>
            )}
          </svg>
        )}
        {known < 0 && <p class="plot-wait muted">Gathering …</p>}
      </div>
    </figure>
  );
}

/** A line without figures, for beside a figure. */
export function Spark({ values, most, color = 1 }: { values: readonly number[]; most?: number; color?: 1 | 2 | 3 }) {
  const W = 120;
  const H = 32;
  const top = Math.max(most ?? 0, ...values) || 1;
  const points = values.map((v, i) => {
    const px = values.length > 1 ? (i / (values.length - 1)) * W : W;
    return `${px.toFixed(1)} ${(H - 2 - (v / top) * (H - 4)).toFixed(1)}`;
  });
  return (
    <svg class={`spark c${color}`} viewBox={`0 0 ${W} ${H}`} preserveAspectRatio="none" aria-hidden="true">
      {points.length > 1 && (
        <>
          <path class="area" d={`M${points.join('L')}L${W} ${H}L0 ${H}Z`} />
          <path class="line" d={`M${points.join('L')}`} />
        </>
      )}
    </svg>
  );
}
