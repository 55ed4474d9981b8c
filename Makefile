# SPDX-License-Identifier: GPL-2.0-or-later
# The commands of the project; "make help" lists them. Meson does the building (meson.build).
# Results: build/viv, build/vivd, build/viv-vm and the tools; build/guest/.

B := build
PREFIX ?= /usr/local

.PHONY: build web run guest test test-guests test-lab check asan format bench bench-manager fuzz fuzz-cpu install deb clean distclean help

build: ## compile build/viv, build/vivd, build/viv-vm and the tools, build/viv-*
	@scripts/setup.sh build
	@scripts/build.sh $(B)/meson program
	@cd $(B) && find meson -maxdepth 1 -type f -name 'viv*' -exec ln -sfn -t . {} +

web: ## compile the portal anew, also when it did not work the last time ("make build" does it when web/ has changed)
	@scripts/web.sh again

run: build guest ## boot Debian in viv-vm on this terminal
	@scripts/run.sh

guest: build ## make the guest disk, its kernel and the tiny initramfs in build/guest
	@scripts/setup.sh guest
	@scripts/guest.sh

test: ## every test: unit, sanitizers, fuzz (bounded), guests; T=pattern selects
	@scripts/setup.sh build test browser guest
	@scripts/build.sh $(B)/meson tests
	@cd $(B) && find meson -maxdepth 1 -type f -name 'viv*' -exec ln -sfn -t . {} +
	@scripts/guest.sh & scripts/build.sh $(B)/asan sanitize; r=$$?; wait $$! && exit $$r
	@tests/run $(T)

test-guests: ## other systems as guests: installers, memory tests, boot loaders (an hour); T=pattern selects
	@scripts/setup.sh build test guest guests
	@scripts/build.sh $(B)/meson program
	@cd $(B) && find meson -maxdepth 1 -type f -name 'viv*' -exec ln -sfn -t . {} +
	@scripts/guest.sh
	@tests/run --only long $(T)

test-lab: ## the KVM backend, in a machine with emulated hardware virtualization (half an hour); T=pattern selects
	@scripts/setup.sh build test guest lab
	@scripts/build.sh $(B)/meson program
	@cd $(B) && find meson -maxdepth 1 -type f -name 'viv*' -exec ln -sfn -t . {} +
	@scripts/guest.sh
	@tests/run --only lab $(T)

check: ## layout, static analysis, include direction, licence lines
	@scripts/setup.sh build test check
	@scripts/build.sh $(B)/meson tests
	@scripts/check.sh

format: ## lay out all C sources by .clang-format
	@scripts/setup.sh check
	@find src tests bench -name '*.[ch]' 2>/dev/null | xargs -r clang-format -i

asan: ## the unit tests under AddressSanitizer and UBSan; T=pattern selects
	@scripts/setup.sh build test
	@scripts/build.sh $(B)/asan sanitize
	@tests/run --only asan $(T)

bench: build guest ## CPU time against QEMU's software CPU and native; ROUNDS=5, QUICK=1, ONLY=pattern
	@scripts/setup.sh bench
	@bench/run

bench-manager: build ## what the manager costs and how fast it answers; ROUNDS=5
	@bench/manager

fuzz: ## run the fuzz target T=name for SECONDS=60 (all of them without T)
	@scripts/setup.sh build test
	@scripts/build.sh $(B)/asan sanitize
	@tests/run --only fuzz --seconds $(or $(SECONDS),60) $(T)

fuzz-cpu: ## N=cases of random instructions against the host's CPU; SEED=number repeats a run
	@scripts/setup.sh build test
	@scripts/build.sh $(B)/meson tests
	@scripts/fuzz-cpu.sh "$(N)" "$(SEED)"

install: build ## programs, manual pages, completions, units: to $(DESTDIR)$(PREFIX)
	@scripts/install.sh "$(DESTDIR)" "$(PREFIX)"

deb: build ## a Debian package, build/vivarium_VERSION_ARCHITECTURE.deb
	@scripts/setup.sh deb
	@scripts/deb.sh $(B)

clean: ## remove what was compiled; the guest's disk stays
	rm -rf $(B)/meson $(B)/asan $(B)/viv*

distclean: ## remove build/ with the guest's disk
	rm -rf $(B)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1@\2/p' Makefile | while IFS=@ read -r c t; do \
		printf '%-16s %s\n' "$$c" "$$t"; done
