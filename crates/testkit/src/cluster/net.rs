//! Hosts of our own: network namespaces, joined by a switch in one more, that can be cut off from each other.
//!
//! The switch has a namespace to itself so that no packet filter of this machine sees what goes through it.

use std::env::temp_dir;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

use rustix::process::getuid;

/// Hosts `0..size`, all of which this machine can reach. Gone on drop.
pub struct Net {
    number: u8,
    size: usize,
    /// Nobody else has this number while this is open.
    _claim: File,
}

impl Net {
    /// Makes `size` hosts. Needs to be root.
    pub fn new(size: usize) -> Self {
        let (number, claim) = (1..=254).find_map(claim).expect("a number that no other network has");
        let net = Self { number, size, _claim: claim };
        // What a run that was killed may have left.
        net.clear();
        let hub = net.hub();
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", &hub, "link", "set", "switch", "up"]);
        net.plug(&net.here(), "here");
        ip(&["address", "add", &format!("{}/24", net.address_of(254)), "dev", &net.here()]);
        ip(&["link", "set", &net.here(), "up"]);
        for n in 0..size {
            let (host, port) = (net.host(n), format!("port{n}"));
            ip(&["netns", "add", &host]);
            net.plug(&format!("{}h{n}", net.here()), &port);
            ip(&["link", "set", &format!("{}h{n}", net.here()), "netns", &host, "name", "eth0"]);
            ip(&["-n", &host, "address", "add", &format!("{}/24", net.address(n)), "dev", "eth0"]);
            ip(&["-n", &host, "link", "set", "eth0", "up"]);
            ip(&["-n", &host, "link", "set", "lo", "up"]);
        }
        net
    }

    /// Where a host is.
    pub fn address(&self, n: usize) -> Ipv4Addr {
        self.address_of(u8::try_from(n + 1).expect("a few hosts"))
    }

    /// `program`, to be run on a host.
    pub fn on(&self, n: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        // It becomes the program: the process is the program's own.
        command.args(["netns", "exec", &self.host(n), program]);
        command
    }

    /// Cuts a host off from everybody: packets vanish.
    pub fn cut(&self, n: usize) {
        ip(&["-n", &self.hub(), "link", "set", &format!("port{n}"), "down"]);
    }

    /// Ends a [`Net::cut`].
    pub fn mend(&self, n: usize) {
        ip(&["-n", &self.hub(), "link", "set", &format!("port{n}"), "up"]);
    }

    /// Parts all hosts from one another, or joins them again; this machine reaches them all the same.
    pub fn part_all(&self, parted: bool) {
        for n in 0..self.size {
            let (port, isolated) = (format!("port{n}"), if parted { "on" } else { "off" });
            let words = ["-n", &self.hub(), "link", "set", "dev", &port, "isolated", isolated];
            succeed(Command::new("bridge").args(words));
        }
    }

    /// Parts one host from the others, or joins it again; this machine reaches it all the same.
    pub fn part(&self, n: usize, parted: bool) {
        for other in (0..self.size).filter(|other| *other != n) {
            for (from, to) in [(n, other), (other, n)] {
                let (from, to) = (self.host(from), self.address(to).to_string());
                if parted {
                    astray(&from, &to);
                } else {
                    ip(&["-n", &from, "neighbour", "delete", &to, "dev", "eth0"]);
                }
            }
        }
    }

    /// Lets nothing get from a host to this port of others, or again. It vanishes on the way: a program that cannot send knows
    /// whose fault it is.
    pub fn bar(&self, n: usize, port: u16, barred: bool) {
        let (host, nobody, table) = (self.host(n), self.address_of(253).to_string(), "77");
        astray(&host, &nobody);
        ip(&["-n", &host, "route", "replace", "default", "via", &nobody, "dev", "eth0", "table", table]);
        let verb = if barred { "add" } else { "delete" };
        for protocol in ["udp", "tcp"] {
            let what = ["ipproto", protocol, "dport", &port.to_string(), "lookup", table];
            ip(&[&["-n", &host, "rule", verb][..], &what].concat());
        }
    }

    /// A cable from here to the switch.
    fn plug(&self, end: &str, port: &str) {
        ip(&["link", "add", end, "type", "veth", "peer", "name", port, "netns", &self.hub()]);
        ip(&["-n", &self.hub(), "link", "set", port, "master", "switch"]);
        ip(&["-n", &self.hub(), "link", "set", port, "up"]);
    }

    /// In the range that is set aside for tests of networks (RFC 2544).
    fn address_of(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, last)
    }

    fn here(&self) -> String {
        format!("pt{}", self.number)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.here())
    }

    fn host(&self, n: usize) -> String {
        format!("{}-{n}", self.here())
    }

    fn clear(&self) {
        let all = (0..self.size).map(|n| self.host(n)).chain([self.hub()]);
        for namespace in all {
            // Its cables go with it.
            let _not_there = Command::new("ip").args(["netns", "delete", &namespace]).output();
        }
        let _gone_already = Command::new("ip").args(["link", "delete", &self.here()]).output();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Takes a number, unless another network has it, also of another process.
fn claim(number: u8) -> Option<(u8, File)> {
    let path = temp_dir().join(format!("portolan-test-net-{}-{number}", getuid().as_raw()));
    let file = File::options().write(true).create(true).truncate(false).open(path).expect("a file");
    file.try_lock().is_ok().then_some((number, file))
}

/// What a host sends to an address goes to a card that nobody has.
fn astray(host: &str, address: &str) {
    let card = ["lladdr", "02:00:00:00:00:00", "dev", "eth0", "nud", "permanent"];
    ip(&[&["-n", host, "neighbour", "replace", address][..], &card].concat());
}

fn ip(words: &[&str]) {
    succeed(Command::new("ip").args(words));
}

fn succeed(command: &mut Command) {
    let told = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; run cargo xtask setup"));
    assert!(told.status.success(), "{command:?}: {}", String::from_utf8_lossy(&told.stderr));
}
