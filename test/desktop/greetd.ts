/** Logins at greetd, with a greeter of the test's own that speaks greetd's protocol and takes what is typed from a pipe. */
import * as fs from 'node:fs';
import type { Machine } from './machine.ts';
import type { Person } from './workstation.ts';

/**
 * Reads "NAME PASSWORD COMMAND" from a pipe and logs that person in (greetd-ipc(7)), with the variables in a file; says
 * what greetd answered.
 */
const GREETER = `#!/usr/bin/perl
use strict; use JSON::PP; use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new(Peer => $ENV{GREETD_SOCK}) or die "socket: $!";
sub ask {
  my $text = encode_json($_[0]);
  syswrite $socket, pack("L", length $text) . $text;
  read $socket, my $head, 4 or die "greetd has gone";
  read $socket, my $body, unpack("L", $head);
  open my $log, ">>", "/run/greet/log"; print $log "$body\n"; close $log;
  return decode_json($body);
}
open my $pipe, "<", "/run/greet/keys" or die "pipe: $!";
my ($name, $password, $command) = split / /, <$pipe> =~ s/\n//r, 3;
my $r = ask({ type => "create_session", username => $name });
$r = ask({ type => "post_auth_message_response", response => $password }) while $r->{type} eq "auth_message";
my @env = -e "/run/greet/env" ? split /\n/, qx(cat /run/greet/env) : ();
if ($r->{type} eq "success") { ask({ type => "start_session", cmd => [split / /, $command], env => [@env] }) }
else { ask({ type => "cancel_session" }) }
`;

/** Has greetd, which is not running, start that greeter without a virtual terminal. */
export function configureGreetd(lab: Machine): void {
  fs.writeFileSync(lab.at('/usr/local/bin/greet'), GREETER, { mode: 0o755 });
  fs.writeFileSync(
    lab.at('/etc/greetd/config.toml'),
    '[terminal]\nvt = "none"\n[default_session]\ncommand = "/usr/local/bin/greet"\nuser = "_greetd"\n',
  );
}

export function startGreetd(lab: Machine): void {
  lab.script(
    'install -d -o _greetd /run/greet; mkfifo /run/greet/keys; chown _greetd /run/greet/keys; systemctl start greetd',
  );
}

/** Types a login; the greeter comes by itself. */
export function typeAtGreetd(lab: Machine, { name, password }: Person, command: string): void {
  const words = ['sh', '-c', 'echo "$1" >/run/greet/keys', 'sh', `${name} ${password} ${command}`];
  lab.must('timeout', '300', ...words);
}
