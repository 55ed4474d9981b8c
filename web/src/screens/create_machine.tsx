// SPDX-License-Identifier: GPL-2.0-or-later
// The form of a new machine: what everybody sets is there, the rest of what the API takes is a step away.
import { useState } from 'preact/hooks';
import { can, resource } from '../api/document';
import { bytes } from '../format';
import { go } from '../router';
import { images, machines } from '../store';
import { Note } from '../ui/bits';
import { Dialog } from '../ui/dialog';
import { Form, type Group } from '../ui/form';
import { Icon } from '../ui/icon';

export const vmGroups: Group[] = [
  { title: '', fields: ['image', 'template', 'cpus', 'memory', 'disk', 'volumes'], open: true },
  { title: 'Network', fields: ['network', 'nic_model', 'forward', 'bootfile', 'tftp', 'nic_rom'] },
  { title: 'Boot and hardware', fields: ['firmware', 'boot', 'boot_menu', 'cdrom', 'cdrom_bus', 'bus', 'vga', 'vnc', 'vnc_tls', 'vnc_password_file', 'serial_ports', 'hpet', 'share', 'devices', 'smbios'] },
  { title: 'Processors and memory, in detail', fields: ['cpus_max', 'memory_max', 'balloon', 'cpu', 'cpu_model'] },
  { title: 'Inside the guest', fields: ['hostname', 'user', 'ssh_key', 'user_data'] },
  { title: 'More', fields: ['*'] },
];

const placeholders = {
  forward: '8080:80',
  ssh_key: 'ssh-ed25519 AAAA…',
  hostname: 'web.example.org',
  user: 'debian',
  user_data: '#cloud-config',
  disk: 'as the image',
  network: 'user,lan/e1000e',
  cdrom: '/srv/installer.iso',
  boot: 'disk,cdrom,network',
  vnc: '127.0.0.1:5900',
  smbios: 'serial=A-17',
  share: 'src=/home/me/src,ro',
  devices: '0000:03:00.0',
};

/** The button for it, where it is allowed, and the form behind it. */
export function NewMachine() {
  const [open, setOpen] = useState(false);
  if (!can('vm', 'create')) return null;
  return (
    <>
      <button class="primary" onClick={() => setOpen(true)}>
        <Icon name="plus" />
        New machine
      </button>
      {open && <CreateMachine onClose={() => setOpen(false)} />}
    </>
  );
}

function CreateMachine({ onClose }: { onClose: () => void }) {
  const [on, setOn] = useState(true);
  const schema = resource('vm')?.create;
  const ready = [...images().use().items.value.values()].filter((i) => i.status.state === 'ready');
  if (!schema) return null;
  const start = ready.length === 1 ? { image: ready[0]!.name } : ready.find((i) => i.name === 'debian') ? { image: 'debian' } : {};
  return (
    <Dialog title="New machine" wide onClose={onClose}>
      {images().loaded.value && (
        <Form
          schema={schema}
          start={start}
          groups={vmGroups}
          withName
          nameHelp="small letters, digits, '-' and '.'; how you call it"
          placeholders={placeholders}
          hidden={['power']}
          verb="Create"
          onCancel={onClose}
          before={
            ready.length === 0 && (
              <Note tone="info" title="There is no image yet">
                <p>
                  A machine's disk begins as an image. <a href="#/images" onClick={onClose}>Make one first</a>; it takes a minute or two.
                </p>
              </Note>
            )
          }
          after={
            <>
              <label class="check">
                <input type="checkbox" checked={on} onChange={(e) => setOn(e.currentTarget.checked)} />
                <span>Start it at once</span>
              </label>
              {ready.length > 0 && (
                <p class="muted small">
                  Images: {ready.map((i) => `${i.name}${i.status.size ? ` (${bytes(i.status.size)})` : ''}`).join(', ')}. A disk takes room only for what differs from its image.
                </p>
              )}
            </>
          }
          onSubmit={async (name, spec) => {
            const vm = await machines().create({ name, spec: { ...spec, ...(on ? { power: 'on' } : {}) } });
            onClose();
            go('machines', vm.name);
          }}
        />
      )}
    </Dialog>
  );
}
