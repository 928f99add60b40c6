/**
 * What people do every day, as commands of a shell. Each succeeds in a login on the machine without Mayfly, and what it
 * says is compared with what it says in a session. docs/inside.md has the table, and explains what differs.
 */

/** Runs something with a terminal of its own; says nothing but whether it succeeded. */
const inTerminal = (program: string, word: string): string =>
  `rm -f ~/seen; timeout 60 ${program} ${word} 'sh -c "tty >~/seen"' 2>/dev/null; sed 's|[0-9]*$||' ~/seen`;

/** Says what a command has said only if it fails. */
const orSays = (command: string): string => `said=$(${command} 2>&1) || { echo "$said"; false; }`;

const TERMINAL = {
  'xterm opens': inTerminal('xterm', '-e'),
  'the desktop’s terminal opens': `if command -v xfce4-terminal >/dev/null; then ${inTerminal('xfce4-terminal --disable-server', '-x').replace("'sh -c", 'sh -c').replace('seen"\'', 'seen"')}; else echo /dev/pts/; fi`,
  'my shell': `echo $SHELL; getent passwd "$(id -un)" | cut -d: -f7`,
  'my groups': 'id -Gn | tr " " "\\n" | LC_ALL=C sort',
  umask: 'umask',
  'limits.d': 'ulimit -n',
  language: 'echo "$LANG"; locale charmap',
  '/etc/environment': 'echo "$BENCH_SITE"',
  PATH: 'echo "$PATH"',
  'the time zone': 'date +%Z',
  'who is here': 'who | wc -l',
  'the name of the machine': 'hostname; uname -n; hostnamectl hostname',
  'screen keeps a shell':
    "screen -dmS bench sh -c 'sleep 30' && screen -ls | grep -c bench; screen -S bench -X quit",
  'tmux keeps a shell':
    'tmux -L bench new-session -d sleep 30 && tmux -L bench ls | wc -l; tmux -L bench kill-server',
  'a program that outlives its terminal': 'nohup sleep 0 >/dev/null 2>&1 </dev/null && echo done',
  'a manual page': 'man -w ls',
};

const PROGRAMMING = {
  'git: a first commit':
    'cd "$(mktemp -d)" && git init -q . && echo x >x && git add x && git -c user.name=a -c user.email=a@b commit -q -m x && git log --oneline | wc -l',
  'a C program is compiled and run':
    'cd "$(mktemp -d)" && echo "int main(void) { return 7; }" >x.c && gcc x.c && { ./a.out; echo $?; }',
  'Python: processes with a lock':
    'python3 -c "import multiprocessing as m; m.Lock(); print(m.Pool(2).map(abs, [-1, -2]))"',
  'Python: a virtual environment': 'd=$(mktemp -d) && python3 -m venv "$d" && "$d/bin/python" -c "print(1)"',
  'gdb stops a program':
    'gdb -q -batch -ex "break main" -ex run -ex kill /bin/true 2>&1 | grep -c -i "breakpoint\\|no symbol"',
  'strace shows calls': 'strace -f true 2>&1 | grep -c "^exit_group"',
  coredumpctl: 'coredumpctl --no-pager list 2>&1 | grep -c -i coredump',
  'where cores go': 'cat /proc/sys/kernel/core_pattern',
  'inotify: watches that Eclipse needs': 'cat /proc/sys/fs/inotify/max_user_watches',
  'inotify: a new file is seen':
    'd=$(mktemp -d); (inotifywait -q -t 20 -e create "$d" >"$d.out"; echo $? >"$d.code") & i=0; until [ -e "$d.code" ] || [ $i -gt 80 ]; do i=$((i + 1)); touch "$d/$i"; sleep 0.1; done; cat "$d.code"',
  'TeX makes a font':
    'cd "$(mktemp -d)" && basename "$(mktexpk --dpi 300 --bdpi 300 --mag 1+0/300 --mfmode cx cmr10 2>/dev/null)"',
  'TeX sets a page': `cd "$(mktemp -d)" && printf '%s\\n' 'Hello \\bye' >x.tex && tex -interaction=batchmode x.tex >/dev/null && ls x.dvi`,
};

const FILES = {
  'ls -l of a shared folder': "ls -l /home/shared | awk '/plans/ {print $1, $3, $4}'",
  'a file of my group': 'cat /home/shared/plans',
  'a new file there has its group':
    'touch /home/shared/mine && stat -c "%U %G" /home/shared/mine && rm /home/shared/mine',
  'find -user': 'find /home -maxdepth 2 -user bob -name plans 2>/dev/null; true',
  'another person': 'getent passwd bob | cut -d: -f1,6; getent group robotics | cut -d: -f1,4',
  'no hashes of others': 'getent shadow bob || echo none',
  'an access list': 'touch ~/acl && setfacl -m u:bob:r ~/acl && getfacl -c ~/acl 2>/dev/null | grep bob',
  'another group for a command': 'sg robotics -c "id -gn"',
  'a mount of fstab for users':
    'mount /home/shared/scratch && touch /home/shared/scratch/x && ls /home/shared/scratch; umount /home/shared/scratch',
  'the waste basket': 'echo x >~/waste && gio trash ~/waste && gio trash --list | grep -c waste',
  'folders of the home': 'xdg-user-dirs-update; basename "$(xdg-user-dir DESKTOP)"',
  'free space of the home': 'df --output=avail ~ | wc -l',
  'a lock in /run/lock': 'stat -c %a /run/lock && touch /run/lock/bench.$$ && rm /run/lock/bench.$$',
  'shared memory': 'echo x >/dev/shm/bench.$$ && rm /dev/shm/bench.$$ && echo done',
  'System V shared memory': 'ipcmk -M 4096 | wc -l; ipcrm --all=shm; echo removed',
  'a temporary file': 'f=$(mktemp) && stat -c "%U %a" "$f"; f=$(mktemp -p /var/tmp) && stat -c "%U %a" "$f"',
  'an AppImage': 'bench-app-image',
  sshfs:
    'mkdir -p ~/far && echo x >~/near && sshfs localhost:/home/$(id -un) ~/far && cat ~/far/near; fusermount -u -z ~/far',
  'a stick is put in and taken out':
    'bench-ask stick; sleep 0.2; cat /media/stick/letter; bench-ask unstick; ls /media/stick 2>/dev/null | wc -l',
};

const RIGHTS = {
  'sudo hostname': "echo wonder | sudo -S -p '' hostname 2>/dev/null",
  'sudo: who am I': "echo wonder | sudo -S -p '' id -un 2>/dev/null",
  'su to somebody else': 'echo builder | su bob -c "id -un" 2>&1 | sed "s/^Password: //"',
  'a wrong password for su': 'echo wrong | su bob -c id 2>&1 | tail -n 1 | sed "s/^Password: //"; true',
  'dumpcap lists interfaces': 'dumpcap -D 2>/dev/null | grep -c -w lo',
  ping: 'ping -c 1 -q 127.0.0.1 | grep -c " 0% packet loss"',
  'KVM may be used': '[ -r /dev/kvm ] && [ -w /dev/kvm ] && stat -c %G /dev/kvm',
  'a serial line may be used': '[ -r /dev/ttyS9 ] && [ -w /dev/ttyS9 ] && stat -c %G /dev/ttyS9',
  'my password is known to a locker':
    'printf \'wonder\\0\' | /usr/sbin/unix_chkpwd "$(id -un)" nullok; echo $?',
  'a wrong one is not': 'printf \'wrong\\0\' | /usr/sbin/unix_chkpwd "$(id -un)" nullok; echo $?',
  'unlocking after the password was changed':
    'bench-ask password; i=0; until printf \'changed\\0\' | /usr/sbin/unix_chkpwd "$(id -un)" nullok; do i=$((i+1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done; bench-ask old-password; echo unlocked',
  'the state of my password': 'passwd -S | cut -d" " -f1,2',
  'somebody new on the machine':
    'bench-ask newcomer; i=0; until getent passwd newcomer >/dev/null || [ $i -gt 50 ]; do i=$((i+1)); sleep 0.1; done; getent passwd newcomer | cut -d: -f1',
  'passwd changes my password': `${orSays("printf 'wonder\\nAnother-1-word\\nAnother-1-word\\n' | passwd")} && echo changed && bench-ask old-password`,
  'chsh changes my shell': `${orSays('echo wonder | chsh -s /bin/sh')} && getent passwd "$(id -un)" | cut -d: -f7`,
};

const SERVICES = {
  crontab: "echo '0 0 1 1 * true' | crontab - && crontab -l | grep -c true; crontab -r",
  at: `${orSays('echo true | at now + 1 hour')} && atq | wc -l && atrm $(atq | cut -f1)`,
  batch: `${orSays('echo true | batch')} && echo queued`,
  'the printer is known': 'lpstat -p bench | cut -d" " -f1-4',
  'a page is printed': 'echo hello | lp -d bench | cut -d" " -f1,2',
  'lpr and lpq': 'echo hello | lpr -P bench && lpq -P bench | head -n 1',
  'printing after cups was restarted':
    'bench-ask printer; i=0; until lpstat -r 2>/dev/null | grep -q "is running" || [ $i -gt 50 ]; do i=$((i+1)); sleep 0.1; done; lpstat -r',
  'the journal has my messages':
    'logger -t bench "hello $$"; i=0; until journalctl -q -t bench -o cat 2>/dev/null | grep -qx "hello $$" || [ $i -gt 50 ]; do i=$((i+1)); sleep 0.1; done; journalctl -q -t bench -o cat -n 1 | cut -c1-5',
  'systemctl: a service of the machine': 'systemctl is-active cron.service',
  'systemctl: the machine': 'systemctl show -P Version >/dev/null && echo answered',
  'systemctl start asks for the right':
    'systemctl --no-ask-password start cron.service 2>&1 | head -n 1 | cut -c1-60 | sed "s/Method call timed/Connection timed/"',
  'loginctl: my session': 'loginctl show-session auto -P State -P Type 2>&1 | tr "\\n" " "',
  'loginctl: I linger': 'loginctl show-user "$(id -un)" -P Linger',
  'timedatectl, localectl': 'timedatectl show -p CanNTP >/dev/null && localectl status | grep -o "LANG=.*"',
  'a unit of mine': 'systemd-run --user --quiet --wait --collect --pipe sh -c "id -un"',
  'a timer of mine':
    'rm -f ~/ticked; systemd-run --user --quiet --collect --on-active=0.1 --timer-property=AccuracySec=100ms touch ~/ticked; i=0; until [ -e ~/ticked ] || [ $i -gt 200 ]; do i=$((i+1)); sleep 0.1; done; ls ~/ticked',
  'my manager is well': 'systemctl --user list-units --failed --plain --no-legend | cut -d" " -f1',
  'ssh to this machine': 'ssh -o BatchMode=yes localhost id -un',
  'scp to this machine': 'echo x >~/a && scp -q -o BatchMode=yes ~/a localhost:b && cat ~/b',
};

const DESKTOP = {
  'ssh-agent holds a key': 'ssh-add -q ~/.ssh/id_ed25519 && ssh-add -l | wc -l',
  'gpg makes a key and signs':
    'gpg -q --batch --passphrase "" --quick-gen-key bench default default never 2>/dev/null; echo x | gpg -q --batch -s 2>/dev/null | gpg -q --batch -d 2>/dev/null',
  'the input method': 'echo "$XMODIFIERS $GTK_IM_MODULE $QT_IM_MODULE"',
  'ibus runs':
    'i=0; until pgrep -u "$(id -u)" -x ibus-daemon >/dev/null || [ $i -gt 100 ]; do i=$((i+1)); sleep 0.1; done; ibus engine 2>&1 | head -n 1 | sed "s/:.*//"',
  'sound: the server': 'pactl info | grep -c "^Server Name"',
  'a notification': 'notify-send --expire-time=1 bench && echo sent',
  'copy and paste':
    'echo words | xclip -i -selection clipboard >/dev/null 2>&1 && xclip -o -selection clipboard',
  '3D by software': 'glxinfo -B | grep -c "^OpenGL renderer"',
  'the screen': 'xrandr | grep -c "^screen connected"',
  'the keyboard': 'setxkbmap -query | grep layout',
  'the browser for a link': 'xdg-mime query default text/html; xdg-settings get default-web-browser',
  'settings are kept':
    'gsettings set org.gtk.Settings.FileChooser show-hidden true && gsettings get org.gtk.Settings.FileChooser show-hidden',
  'files on servers (gvfs)':
    'gio mount -l >/dev/null; findmnt -n -t fuse.gvfsd-fuse -o TARGET | sed "s/[0-9][0-9]*/UID/"',
  'the portal answers':
    'busctl --user call org.freedesktop.portal.Desktop /org/freedesktop/portal/desktop org.freedesktop.DBus.Peer Ping && echo answered',
  'Firefox after it was killed':
    'p=$(mktemp -d); timeout -s KILL 60 firefox-esr --headless --no-remote --profile "$p" about:blank >/dev/null 2>&1 & f=$!; i=0; until [ -e "$p/.parentlock" ] || [ $i -gt 300 ]; do i=$((i+1)); sleep 0.1; done; pkill -KILL -P $f; wait $f 2>/dev/null; timeout 100 firefox-esr --headless --no-remote --profile "$p" --screenshot "$p/x.png" file:///usr/local/share/bench/page.html >/dev/null 2>&1; ls "$p" | grep -x x.png',
};

/** What is to be saved when the person logs out; the test looks for the files of {@link SAVED} afterwards. */
const SAVING = {
  'a service that saves when it is told to end':
    'systemd-run --user --quiet --unit=bench-saver bench-saver service && systemctl --user is-active bench-saver',
  'a service with an ExecStop of a second':
    'systemd-run --user --quiet --unit=bench-stop -p "ExecStop=/bin/sh -c \'sleep 1; echo saved >$HOME/saved-stop\'" sleep 1000 && systemctl --user is-active bench-stop',
};

export const ACTIONS: Readonly<Record<string, string>> = {
  ...TERMINAL,
  ...PROGRAMMING,
  ...FILES,
  ...RIGHTS,
  ...SERVICES,
  ...DESKTOP,
  ...SAVING,
};

/** What is not as on the host, by what it says in a session; docs/inside.md says why. */
export const DIFFERENT: Readonly<Record<string, RegExp>> = {
  'my groups': /^ok alice dialout kvm robotics wireshark$/,
  'a mount of fstab for users': /can't find in \/etc\/fstab/,
  'su to somebody else': /Authentication failure/,
  'somebody new on the machine': /^ok$/,
  'passwd changes my password': /is kept on the host/,
  'chsh changes my shell': /is kept on the host/,
  crontab: /a session runs no jobs/,
  at: /a session runs no jobs/,
  batch: /a session runs no jobs/,
};
