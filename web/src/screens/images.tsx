// SPDX-License-Identifier: GPL-2.0-or-later
// Images: what disks of machines begin as.
import { useState } from 'preact/hooks';
import { actionsOf, can, resource } from '../api/document';
import type { Image, Job } from '../api/schema';
import { bytes, plural } from '../format';
import { images, jobs, machines } from '../store';
import { Ago, Copy, Empty, FailureNote, Head, Loading, Progress, State } from '../ui/bits';
import { ask, Dialog } from '../ui/dialog';
import { Form } from '../ui/form';
import { Icon } from '../ui/icon';
import { Menu, type MenuItem } from '../ui/menu';
import { Calls, openCall } from './actions';
import { cancel } from './jobs';

type Making = 'build' | 'import' | null;

const IMPORT = ['file', 'format', 'kernel', 'initrd', 'append'];

function Make({ how, onClose }: { how: 'build' | 'import'; onClose: () => void }) {
  const schema = resource('image')?.create ?? {};
  const all = Object.keys(schema.properties ?? {});
  const hidden = all.filter((f) => (how === 'import') === !IMPORT.includes(f) && (how === 'import' || IMPORT.includes(f)));
  const needed = how === 'import' ? ['file'] : [];
  return (
    <Dialog title={how === 'build' ? 'Build an image' : 'Import a disk image'} wide onClose={onClose}>
      <Form
        schema={{ ...schema, required: [...(schema.required ?? []), ...needed] }}
        withName
        nameHelp={how === 'build' ? "which one: 'debian', or 'tiny' for a small Linux that boots at once" : 'how the image is called here'}
        hidden={hidden}
        placeholders={{ packages: 'cloud-init', file: '/srv/images/disk.qcow2', kernel: '/boot/vmlinuz', append: 'root=/dev/vda1 console=ttyS0' }}
        verb={how === 'build' ? 'Build' : 'Import'}
        before={
          <p class="prose">
            {how === 'build'
              ? 'Made here from Debian’s packages. It takes a minute or two, and shows how far it is.'
              : 'Paths are files of the host that the manager runs on. The file stays as it is; its content is copied.'}
          </p>
        }
        onCancel={onClose}
        onSubmit={async (name, spec) => {
          await images().create({ name, ...(Object.keys(spec).length || schema.required?.length ? { spec } : { spec: {} }) });
          void jobs().load();
          onClose();
        }}
      />
    </Dialog>
  );
}

function Card({ image, job, users }: { image: Image; job: Job | undefined; users: number }) {
  const s = image.status;
  const busy = job?.status.state === 'running' ? job : undefined;
  const more = actionsOf('image');
  const remove = () =>
    ask({
      title: `Delete the image ${image.name}?`,
      text: <p>Its files are removed from this host. Machines that lie on it would have to be deleted before.</p>,
      verb: 'Delete',
      danger: true,
      run: () => void images().act(image.name, 'delete'),
    });
  const items: MenuItem[] = [
    ...more.map((v) => ({ label: `${v.name.charAt(0).toUpperCase()}${v.name.slice(1)} …`, icon: 'download' as const, disabled: s.state !== 'ready', run: () => openCall('image', image.name, v) })),
    ...(can('image', 'delete') ? [{ label: 'Delete', icon: 'trash' as const, danger: true, run: remove }] : []),
  ];
  return (
    <li class="panel card-item">
      <header>
        <h2>{image.name}</h2>
        <State state={s.state} pending={images().pending.value.get(image.name)} />
        {items.length > 0 && <Menu label={`More for ${image.name}`} items={items} />}
      </header>
      <p class="muted">{s.title ?? (image.spec.file ? `from ${image.spec.file}` : 'no description')}</p>
      {s.reason && <p class="wrong-text">{s.reason}</p>}
      {busy && (
        <div class="job-progress">
          <Progress value={busy.status.progress} label={`${busy.spec.action} ${image.name}`} />
          <span class="num">{busy.status.progress} %</span>
          <small class="muted cut">{busy.status.stage ?? busy.spec.action}</small>
          <button class="small" onClick={() => cancel(busy)} disabled={busy.status.cancelling}>
            Cancel
          </button>
        </div>
      )}
      <dl class="inline-facts">
        <div>
          <dt>Disk</dt>
          <dd>{s.size ? bytes(s.size) : 'none'}</dd>
        </div>
        <div>
          <dt>Takes</dt>
          <dd>{s.used !== undefined ? bytes(s.used) : '–'}</dd>
        </div>
        <div>
          <dt>Machines</dt>
          <dd>{users}</dd>
        </div>
        <div>
          <dt>Made</dt>
          <dd>
            <Ago time={image.created} />
          </dd>
        </div>
      </dl>
      {s.sha256 && (
        <p class="sum mono muted">
          <span class="cut" title={s.sha256}>
            sha256 {s.sha256}
          </span>
          <Copy text={s.sha256} what="the checksum" />
        </p>
      )}
    </li>
  );
}

export function Images() {
  const [making, make] = useState<Making>(null);
  const all = images().use();
  const work = jobs().use().items.value;
  const rows = [...all.items.value.values()].sort((a, b) => a.name.localeCompare(b.name));
  const users = new Map<string, number>();
  for (const m of machines().use().items.value.values()) users.set(m.spec.image, (users.get(m.spec.image) ?? 0) + 1);
  const buttons = can('image', 'create') && (
    <>
      <button onClick={() => make('import')}>
        <Icon name="download" />
        Import
      </button>
      <button class="primary" onClick={() => make('build')}>
        <Icon name="plus" />
        Build an image
      </button>
    </>
  );
  return (
    <>
      <Head title="Images" sub={rows.length ? `${plural(rows.length, 'image')}, what disks of machines begin as` : undefined}>
        {buttons}
      </Head>
      {all.failure.value && <FailureNote failure={all.failure.value} again={() => void all.load()} />}
      {!all.loaded.value && !all.failure.value ? (
        <Loading rows={3} />
      ) : !rows.length ? (
        <Empty icon="image" title="No images yet" text="An image is what the disk of a machine begins as. Build Debian from its packages, or import a disk image that you have.">
          {buttons}
        </Empty>
      ) : (
        <ul class="cards">
          {rows.map((i) => (
            <Card key={i.id} image={i} job={i.status.job ? work.get(i.status.job) : undefined} users={users.get(i.name) ?? 0} />
          ))}
        </ul>
      )}
      {making && <Make how={making} onClose={() => make(null)} />}
      <Calls />
    </>
  );
}
