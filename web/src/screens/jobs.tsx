// SPDX-License-Identifier: GPL-2.0-or-later
// Work that takes long, with its progress.
import { can } from '../api/document';
import type { Job } from '../api/schema';
import { jobs } from '../store';
import { Ago, Empty, FailureNote, Head, Loading, Progress, State } from '../ui/bits';
import { ask } from '../ui/dialog';
import { sorted, Table, type Column } from '../ui/table';

export function cancel(j: Job): void {
  ask({
    title: `Cancel this job?`,
    text: <p>“{j.spec.action} {j.spec.object}” is given up. It leaves nothing half-done.</p>,
    verb: 'Cancel the job',
    danger: true,
    run: () => void jobs().act(j.name, 'cancel'),
  });
}

export const jobColumns = (): Column<Job>[] => [
  {
    id: 'what', title: 'What', class: 'main',
    cell: (j) => (
      <>
        <span>
          <b>{j.spec.action}</b> {j.spec.object}
        </span>
        <small class="only-s muted cut">{j.status.reason ?? j.status.stage}</small>
      </>
    ),
  },
  { id: 'state', title: 'State', class: 'state-cell', cell: (j) => <State state={j.status.cancelling && j.status.state === 'running' ? 'cancelling' : j.status.state} /> },
  {
    id: 'progress', title: 'Progress', class: 'wide hide-s',
    cell: (j) =>
      j.status.state === 'running' ? (
        <span class="job-progress">
          <Progress value={j.status.progress} label={`${j.spec.action} ${j.spec.object}`} />
          <span class="num">{j.status.progress} %</span>
          <small class="muted cut">{j.status.stage}</small>
        </span>
      ) : (
        <span class="cut muted" title={j.status.reason}>
          {j.status.reason ?? ''}
        </span>
      ),
  },
  { id: 'when', title: 'Begun', class: 'hide-s', cell: (j) => <Ago time={j.created} /> },
  {
    id: 'do', title: 'Actions', hidden: true, class: 'do',
    cell: (j) =>
      j.status.state === 'running' && can('job', 'cancel') && (
        <button disabled={j.status.cancelling} onClick={() => cancel(j)} aria-label={`Cancel ${j.spec.action} ${j.spec.object}`}>
          Cancel
        </button>
      ),
  },
];

export function newestFirst(all: ReadonlyMap<string, Job>): Job[] {
  const cols: Column<Job>[] = [{ id: 'w', title: '', cell: () => null, sort: (j) => -Date.parse(j.created) }];
  return sorted([...all.values()], cols, { by: 'w', down: false });
}

export function Jobs() {
  const all = jobs().use();
  const rows = newestFirst(all.items.value);
  return (
    <>
      <Head title="Jobs" sub="Work that takes long: images that are made, imports and exports." />
      {all.failure.value && <FailureNote failure={all.failure.value} again={() => void all.load()} />}
      {!all.loaded.value && !all.failure.value ? (
        <Loading />
      ) : !rows.length ? (
        <Empty icon="job" title="No jobs" text="Making, importing or exporting an image is a job, and shows here how far it is." />
      ) : (
        <div class="panel flush">
          <Table label="Jobs" columns={jobColumns()} rows={rows} rowKey={(j) => j.name} />
        </div>
      )}
    </>
  );
}
