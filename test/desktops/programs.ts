/**
 * The programs that make sandboxes of their own, as people use them: each row is run by the desktop when it starts, and
 * succeeds on a machine without Mayfly. No network is needed; what they open is made here.
 */
import * as fs from 'node:fs';
import type { Machine } from '../desktop/machine.ts';

const PAGE = 'file:///usr/local/share/bench/page.html';
const TITLE = 'Mayfly bench';
const COLOUR = '#A0E0C0';

/**
 * Runs a browser until one of its processes is in a user namespace of its own and the page is shown: by its title on X,
 * and on Wayland by its colour, which nothing else on the screen has. Keeps a picture.
 */
const BROWSE = `#!/bin/sh
# browse NAME PATTERN COMMAND...: PATTERN is of the process that shows pages, and must not match itself
name=$1 pattern=$2; shift 2
show="$HOME/shot-$name.png"
rm -f "$show"
setsid "$@" >"$HOME/browse.log" 2>&1 &
group=$!
own() {
	for pid in $(pgrep -u "$(id -u)" -f -- "$pattern"); do
		map=$(cat "/proc/$pid/uid_map" 2>/dev/null)
		if [ -n "$map" ] && [ "$map" != "$(cat /proc/self/uid_map)" ]; then return 0; fi
	done
	return 1
}
shown() {
	if [ -n "$WAYLAND_DISPLAY" ]; then
		grim "$show" 2>/dev/null && convert "$show" -format %c histogram:info: |
			awk '/${COLOUR}/ { n = $1 + 0 } END { exit n < 100000 }'
	elif [ -n "$DISPLAY" ]; then
		xdotool search --onlyvisible --name '${TITLE}' >/dev/null 2>&1
	fi
}
code=1 i=0
while [ $i -lt 400 ] && kill -0 $group 2>/dev/null; do
	if own && shown; then code=0; break; fi
	i=$((i + 1)); sleep 0.25
done
if [ -n "$WAYLAND_DISPLAY" ]; then grim "$show"; else import -window root "$show"; fi >/dev/null 2>&1
if [ $code != 0 ]; then
	own && echo "sandboxed, but not shown" || echo "no process has a user namespace of its own"
	tail -n 3 "$HOME/browse.log"
fi
kill -- -$group 2>/dev/null
pkill -u "$(id -u)" -f -- "$pattern"
i=0
while { kill -0 -- -$group 2>/dev/null || pgrep -u "$(id -u)" -f -- "$pattern" >/dev/null; } && [ $i -lt 80 ]; do i=$((i + 1)); sleep 0.25; done
exit $code
`;

/** Says what a file holds that is reached through the document portal, from here or from a service. */
const DOCUMENT = `#!/bin/sh
# document HOW: cat FILE here, or with the words of HOW before it
echo hello >"$HOME/letter.txt"
path=$(flatpak document-export "$HOME/letter.txt") || exit
case $path in /run/user/*/doc/*) ;; *) echo "exported as $path"; exit 1 ;; esac
said=$("$@" cat "$path") || exit
[ "$said" = hello ] || { echo "it reads $said"; exit 1; }
`;

const PODMAN = `#!/bin/sh
# an image of a local tar, run without privileges; systemd gives this container no controllers to hand on
podman image exists bench || podman import -q /usr/local/share/bench/image.tar bench >/dev/null || exit
[ "$(podman run --rm --network=none --cgroups=disabled bench /bin/busybox id -u)" = 0 ]
`;

const CHROMIUM = 'chromium --no-first-run --password-store=basic --disable-setuid-sandbox';

/** Firefox's profile; without this it puts a page of its own in front. */
const PROFILE = `#!/bin/sh
profile=$(mktemp -d) || exit
echo 'user_pref("datareporting.policy.dataSubmissionEnabled", false);' >"$profile/user.js"
echo "$profile"
`;

/** By what the row says; each succeeds in a login on the host. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  'rootless podman': 'bench-podman',
  flatpak: '[ "$(flatpak run org.example.Hello)" = hello ]',
  'document portal': 'bench-document',
  'document portal, a service': 'bench-document systemd-run --user --quiet --wait --collect --pipe',
  'Firefox’s content process': `bench-browse firefox 'contentpro[c]' firefox-esr --no-remote --profile "$(bench-profile)" ${PAGE}`,
  'Chromium without set-uid': `bench-browse chromium 'type=rendere[r]' ${CHROMIUM} \${WAYLAND_DISPLAY:+--ozone-platform=wayland} --user-data-dir="$(mktemp -d)" ${PAGE}`,
  'Chromium --headless': `${CHROMIUM} --headless --user-data-dir="$(mktemp -d)" --screenshot="$HOME/shot-headless.png" ${PAGE} && [ -s "$HOME/shot-headless.png" ]`,
  // It asks whether it is to be the default browser, and shades the page, where no program of the desktop can tell.
  'GNOME Web': `gsettings set org.gnome.Epiphany ask-for-default false; bench-browse epiphany 'WebKitWebProces[s]' epiphany --profile="$(mktemp -d)" ${PAGE}`,
};

const METADATA = {
  Platform: `[Runtime]
name=org.example.Platform
runtime=org.example.Platform/$(flatpak --default-arch)/1
sdk=org.example.Platform/$(flatpak --default-arch)/1
`,
  Hello: `[Application]
name=org.example.Hello
runtime=org.example.Platform/$(flatpak --default-arch)/1
sdk=org.example.Platform/$(flatpak --default-arch)/1
command=hello
`,
};

/** Installs all of it on the machine, before Mayfly takes its files for the first generation. */
export function installPrograms(lab: Machine): void {
  for (const [name, text] of Object.entries({
    browse: BROWSE,
    document: DOCUMENT,
    podman: PODMAN,
    profile: PROFILE,
  }))
    fs.writeFileSync(lab.at(`/usr/local/bin/bench-${name}`), text, { mode: 0o755 });
  fs.mkdirSync(lab.at('/usr/local/share/bench'), { recursive: true });
  // Its title comes when it has been painted.
  const painted = `requestAnimationFrame(() => requestAnimationFrame(() => { document.title = '${TITLE}'; }))`;
  const text = '<h1>This page is shown in a sandbox.</h1>';
  const page = `<!doctype html><meta charset="utf-8"><title>-</title><body bgcolor="${COLOUR}">${text}<script>${painted}</script>`;
  fs.writeFileSync(lab.at('/usr/local/share/bench/page.html'), page);
  lab.script(`
    cd /usr/local/share/bench
    mkdir -p image/bin; cp /bin/busybox image/bin; tar -C image -cf image.tar .
    mkdir -p platform/usr/bin platform/files app/files/bin app/export
    for name in busybox sh cat true; do cp /bin/busybox platform/usr/bin/$name; done
    # flatpak has the runtime's program write the cache of the loader
    printf '#!/usr/bin/sh\\nexec busybox touch "$3"\\n' >platform/usr/bin/ldconfig; chmod +x platform/usr/bin/ldconfig
    cat >platform/metadata <<END\n${METADATA.Platform}END
    cat >app/metadata <<END\n${METADATA.Hello}END
    printf '#!/usr/bin/sh\\necho hello\\n' >app/files/bin/hello; chmod +x app/files/bin/hello
    flatpak build-export --runtime --files=usr repo platform 1 >/dev/null
    flatpak build-export repo app 1 >/dev/null
    flatpak remote-add --system --no-gpg-verify bench file:///usr/local/share/bench/repo
    flatpak install --system --noninteractive bench org.example.Hello//1 >/dev/null`);
}
