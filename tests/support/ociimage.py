# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes OCI images for tests, by hand: layers from lists of entries, layouts as folders or archives,
archives as 'docker save' writes them."""
import gzip
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def entry(name, data=None, **kw):
    """A member of a layer: a file if there are data, else what `type` says, by default a folder."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
    info.mode = 0o644 if data is not None else 0o755
    info.mtime = 1600000000
    for key, value in kw.items():
        setattr(info, key, value)
    info.size = len(data) if data is not None else info.size if "size" in kw else 0
    return info, data


def symlink(name, target, **kw):
    return entry(name, type=tarfile.SYMTYPE, linkname=target, **kw)


def hardlink(name, target, **kw):
    return entry(name, type=tarfile.LNKTYPE, linkname=target, **kw)


def layer(*entries):
    """A tar archive of (info, data)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def busybox():
    """A layer with busybox and its names, enough to run a shell."""
    program = shutil.which("busybox")
    data = pathlib.Path(program).read_bytes()
    names = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    rest = [symlink(f"bin/{name}", "busybox") for name in names if name != "busybox"]
    passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    return layer(entry("bin"), entry("bin/busybox", data, mode=0o755), *rest, entry("etc"), entry("root", mode=0o700),
                 entry("tmp", mode=0o1777), entry("etc/passwd", passwd), entry("home"),
                 entry("home/user", uid=1000, gid=1000),
                 entry("etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"))


class Image:
    """Blobs by digest, with what names them."""

    def __init__(self):
        self.blobs, self.manifests = {}, []

    def blob(self, data):
        self.blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    def document(self, value, kind):
        return {"mediaType": kind, **self.blob(json.dumps(value).encode())}

    def manifest(self, layers, packing="", architecture="amd64", diff_ids=None, **config):
        """A manifest of layers given as tar archives; its descriptor."""
        pack = {"": lambda d: d, "+gzip": lambda d: gzip.compress(d, mtime=0), "+zstd": zstd}[packing]
        whole = {"architecture": architecture, "os": "linux", "config": config,
                 "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(d) for d in layers]}}
        return self.document({"schemaVersion": 2, "mediaType": MANIFEST, "config": self.document(whole, CONFIG),
                              "layers": [{"mediaType": LAYER + packing, **self.blob(pack(d))} for d in layers]},
                             MANIFEST)

    def add(self, descriptor, tag=None, platform=None):
        """Names a descriptor in index.json."""
        descriptor = dict(descriptor)
        if tag:
            descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
        if platform:
            descriptor["platform"] = {"os": "linux", "architecture": platform}
        self.manifests.append(descriptor)
        return self

    def files(self):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests}
        return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode(),
                **{"blobs/sha256/" + name[7:]: data for name, data in self.blobs.items()}}

    def folder(self, path):
        for name, data in self.files().items():
            target = pathlib.Path(path) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return path

    def tar(self, path, compress=None):
        data = layer(*[entry(name, data) for name, data in self.files().items()])
        pathlib.Path(path).write_bytes(compress(data) if compress else data)
        return path


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True, capture_output=True).stdout


def docker_save(path, layers, tags=("test:latest",), **config):
    """An archive as 'docker save' wrote it before it knew of OCI; layers that repeat are links."""
    whole = json.dumps({"architecture": "amd64", "os": "linux", "config": config,
                        "rootfs": {"type": "layers", "diff_ids": [digest(d) for d in layers]}}).encode()
    name = digest(whole)[7:] + ".json"
    members, names, known = [entry(name, whole)], [], {}
    for i, data in enumerate(layers):
        folder = hashlib.sha256(f"{i}".encode()).hexdigest()
        names.append(f"{folder}/layer.tar")
        members.append(entry(folder))
        if data in known:
            members.append(symlink(names[-1], f"../{known[data]}/layer.tar"))
        else:
            members.append(entry(names[-1], data))
            known[data] = folder
    members.append(entry("manifest.json",
                         json.dumps([{"Config": name, "RepoTags": list(tags), "Layers": names}]).encode()))
    pathlib.Path(path).write_bytes(layer(*members))
    return path
