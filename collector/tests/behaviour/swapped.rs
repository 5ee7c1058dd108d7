//! What somebody who may write into one log directory does to have something else collected: links in the place of
//! logs, of their directories, and on the way to them. Not a byte of anything else may be delivered, nor stand in
//! the agent's log or state.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    harness::{Agent, World, body, in_every_mode},
    seccomp::without_openat2,
};

in_every_mode!(
    a_link_in_a_static_directory_leads_to_no_file_of_the_host,
    not_even_a_link_that_may_lead_anywhere_leads_to_the_kernels_files,
    a_pods_link_leads_to_no_log_of_the_host,
    a_container_directory_that_becomes_a_link_is_not_followed,
    a_pod_directory_that_becomes_a_link_is_not_followed,
    a_directory_that_a_pattern_begins_in_is_not_followed_when_it_becomes_a_link,
    a_directory_below_a_pattern_is_not_followed_when_it_becomes_a_link,
    a_log_that_becomes_a_link_after_its_rotation_is_not_followed,
    a_link_to_another_tenants_file_is_not_followed,
    a_link_to_another_containers_log_is_not_followed,
    an_agent_that_was_down_meanwhile_follows_no_link_either,
    nothing_is_followed_where_openat2_is_refused,
    a_pipe_in_the_place_of_a_compressed_copy_holds_up_nobody,
    a_file_with_another_name_is_refused_if_asked,
    a_reload_changes_where_links_may_lead,
);

const SECRET: &str = "s3cr3t-of-somebody-else";
/// Long enough for every way of watching to see what is there.
const SEEN: Duration = Duration::from_secs(2);

/// Secrets of the host, under every name that a log might have; and an honest log's directory.
fn prepare(world: &World) {
    for secret in [
        "host/shadow",
        "host/auth.log",
        "host/0.log",
        "host/main/0.log",
        "pods/shop_hidden_uid-h/main/0.log",
    ] {
        let path = world.path(secret);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("2026-11-26T02:00:01Z stdout F {SECRET}\n{SECRET}\n").repeat(20))
            .unwrap();
    }
}

fn cri(path: impl AsRef<Path>, text: &str) {
    append(path, &format!("2026-11-26T02:00:01Z stdout F {text}\n"));
}

fn append(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A line of somebody else's.
fn foreign(path: impl AsRef<Path>) {
    append(path, &format!("{SECRET}\n"));
}

fn start(world: &mut World) -> Agent {
    world.exclude = "hidden";
    world.sweep_interval = "1s";
    prepare(world);
    let agent = world.start();
    world.wait_for_first_look();
    agent
}

/// After a while an honest line still arrives, and nothing else did but these.
#[track_caller]
fn expect(world: &World, agent: Agent, wanted: &[&str]) {
    std::thread::sleep(SEEN);
    cri(world.path("pods/shop_honest_uid-honest/main/0.log"), "honest");
    world.wait_for(wanted.len() + 1);
    assert_eq!(agent.stop(), Some(0));
    let records = world.records();
    let mut bodies: Vec<_> = records.iter().map(body).collect();
    bodies.sort_unstable();
    let mut wanted = [wanted, &["honest"]].concat();
    wanted.sort_unstable();
    assert_eq!(bodies, wanted, "{}", world.log());
    assert_nothing_leaked(world);
}

#[track_caller]
fn assert_nothing_leaked(world: &World) {
    let mut ahead: Vec<PathBuf> = ["out", "state", "agent.log"].map(|name| world.path(name)).into();
    while let Some(path) = ahead.pop() {
        if path.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let text = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(SECRET), "{} has it", path.display());
        }
    }
}

fn a_link_in_a_static_directory_leads_to_no_file_of_the_host(mut world: World) {
    let agent = start(&mut world);
    symlink(world.path("host/shadow"), world.path("plain/x.log")).unwrap();
    symlink("../host/auth.log", world.path("plain/y.log")).unwrap();
    symlink(world.path("host"), world.path("plain/deep")).unwrap();
    symlink("deep/shadow", world.path("plain/z.log")).unwrap();
    append(world.path("plain/own.txt"), "own\n");
    symlink(world.path("plain/own.txt"), world.path("plain/own.log")).unwrap();
    expect(&world, agent, &["own"]);
    assert!(world.log().contains("follow_links"), "{}", world.log());
}

fn not_even_a_link_that_may_lead_anywhere_leads_to_the_kernels_files(mut world: World) {
    world.files = world.files.replace("- paths", "- follow_links: anywhere\n      paths");
    let agent = start(&mut world);
    for (name, target) in [
        ("a", "/proc/version"),
        ("b", "/proc/self/status"),
        ("c", "/dev/zero"),
        ("d", "/sys/kernel/uevent_seqnum"),
    ] {
        symlink(target, world.path(&format!("plain/{name}.log"))).unwrap();
    }
    // Of which it would be said otherwise.
    append(world.path("elsewhere/app.txt"), "own\n");
    symlink(world.path("elsewhere/app.txt"), world.path("plain/own.log")).unwrap();
    expect(&world, agent, &["own"]);
}

fn a_pods_link_leads_to_no_log_of_the_host(mut world: World) {
    let agent = start(&mut world);
    let pod = world.path("pods/shop_ten_uid-t/main");
    cri(pod.join("0.log"), "own");
    symlink(world.path("host/auth.log"), pod.join("1.log")).unwrap();
    symlink("../../shop_hidden_uid-h/main/0.log", pod.join("2.log")).unwrap();
    symlink("../../../host/0.log", pod.join("0.log.20261126-000000")).unwrap();
    let id = "a".repeat(64);
    fs::create_dir_all(world.path("containers")).unwrap();
    symlink(world.path("host/auth.log"), world.path(&format!("containers/ten_shop_main-{id}.log")))
        .unwrap();
    expect(&world, agent, &["own"]);
}

fn a_container_directory_that_becomes_a_link_is_not_followed(mut world: World) {
    let (one, two) =
        (world.path("pods/shop_ten_uid-t/main"), world.path("pods/shop_ten_uid-t/side"));
    cri(one.join("0.log"), "own one");
    cri(two.join("0.log"), "own two");
    let agent = start(&mut world);
    world.wait_for(2);
    fs::rename(&one, world.path("former")).unwrap();
    symlink(world.path("host"), &one).unwrap();
    fs::rename(&two, world.path("other")).unwrap();
    symlink("../shop_hidden_uid-h/main", &two).unwrap();
    std::thread::sleep(SEEN);
    // Whoever has them open writes on; and what is written elsewhere makes them no logs.
    cri(world.path("host/0.log"), SECRET);
    cri(world.path("pods/shop_hidden_uid-h/main/0.log"), SECRET);
    expect(&world, agent, &["own one", "own two"]);
}

fn a_pod_directory_that_becomes_a_link_is_not_followed(mut world: World) {
    let pod = world.path("pods/shop_ten_uid-t");
    cri(pod.join("main/0.log"), "own");
    let agent = start(&mut world);
    world.wait_for(1);
    fs::rename(&pod, world.path("former")).unwrap();
    symlink("shop_hidden_uid-h", &pod).unwrap();
    std::thread::sleep(SEEN);
    fs::remove_file(&pod).unwrap();
    symlink(world.path("host"), &pod).unwrap();
    std::thread::sleep(SEEN);
    cri(world.path("host/main/0.log"), SECRET);
    expect(&world, agent, &["own"]);
}

fn a_directory_that_a_pattern_begins_in_is_not_followed_when_it_becomes_a_link(mut world: World) {
    append(world.path("srv/logs/0.log"), "own\n");
    world.files = format!("    - paths: ['{}']\n", world.path("srv/logs/*.log").display());
    let agent = start(&mut world);
    world.wait_for(1);
    fs::rename(world.path("srv/logs"), world.path("srv/former")).unwrap();
    symlink("../host", world.path("srv/logs")).unwrap();
    std::thread::sleep(SEEN);
    fs::remove_file(world.path("srv/logs")).unwrap();
    // A directory again, it is collected again.
    append(world.path("srv/logs/1.log"), "own again\n");
    expect(&world, agent, &["own", "own again"]);
    assert!(world.log().contains("is a link that is not followed"), "{}", world.log());
}

fn a_directory_below_a_pattern_is_not_followed_when_it_becomes_a_link(mut world: World) {
    append(world.path("srv/ten/logs/0.log"), "own\n");
    world.files = format!("    - paths: ['{}']\n", world.path("srv/*/logs/*.log").display());
    let agent = start(&mut world);
    world.wait_for(1);
    fs::rename(world.path("srv/ten/logs"), world.path("srv/ten/former")).unwrap();
    symlink(world.path("host"), world.path("srv/ten/logs")).unwrap();
    std::thread::sleep(SEEN);
    fs::create_dir_all(world.path("host/logs")).unwrap();
    fs::copy(world.path("host/shadow"), world.path("host/logs/0.log")).unwrap();
    fs::rename(world.path("srv/ten"), world.path("former")).unwrap();
    symlink("../host", world.path("srv/ten")).unwrap();
    std::thread::sleep(SEEN);
    foreign(world.path("host/logs/0.log"));
    expect(&world, agent, &["own"]);
}

fn a_log_that_becomes_a_link_after_its_rotation_is_not_followed(mut world: World) {
    let log = world.path("pods/shop_ten_uid-t/main/0.log");
    cri(&log, "own");
    let agent = start(&mut world);
    world.wait_for(1);
    let former = log.with_file_name("0.log.20261126-000000");
    fs::rename(&log, &former).unwrap();
    cri(&log, "own again");
    world.wait_for(2);
    // It was read to its end and let go; its name is looked at now and then.
    std::thread::sleep(SEEN);
    for name in [&former, &log, &log.with_file_name("0.log.20261126-000001.gz")] {
        let next = name.with_file_name("next");
        symlink(world.path("host/0.log"), &next).unwrap();
        fs::rename(next, name).unwrap();
    }
    std::thread::sleep(SEEN);
    cri(world.path("host/0.log"), SECRET);
    expect(&world, agent, &["own", "own again"]);
}

fn a_link_to_another_tenants_file_is_not_followed(mut world: World) {
    world.files = format!(
        "    - paths: ['{}']\n      exclude: ['{}']\n",
        world.path("srv/*/logs/*.log").display(),
        world.path("srv/*/private/*").display()
    );
    foreign(world.path("srv/other/token.txt"));
    foreign(world.path("srv/ten/private/token.txt"));
    append(world.path("srv/ten/own.txt"), "own\n");
    let agent = start(&mut world);
    let logs = world.path("srv/ten/logs");
    fs::create_dir_all(&logs).unwrap();
    symlink("../../other/token.txt", logs.join("a.log")).unwrap();
    symlink("../private/token.txt", logs.join("b.log")).unwrap();
    symlink("../own.txt", logs.join("c.log")).unwrap();
    expect(&world, agent, &["own"]);
}

fn a_link_to_another_containers_log_is_not_followed(mut world: World) {
    world.docker = ", enabled: false";
    let container = |letter: &str, pod: &str, text: &str| {
        let id = letter.repeat(64);
        let log = world.path(&format!("docker/{id}/{id}-json.log"));
        append(
            &log,
            &format!(
                "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-26T02:00:01Z\"}}\n"
            ),
        );
        let labels = format!(r#"{{"Name":"/k8s_main_{pod}_shop_uid-{pod}_0"}}"#);
        fs::write(log.with_file_name("config.v2.json"), labels).unwrap();
        log
    };
    let (own, other) = (container("a", "ten", "own"), container("b", "bank", SECRET));
    let pod = world.path("pods/shop_ten_uid-t/main");
    fs::create_dir_all(&pod).unwrap();
    symlink(&other, pod.join("1.log")).unwrap();
    symlink(&own, pod.join("0.log")).unwrap();
    let agent = start(&mut world);
    world.wait_for(1);
    // Pointed at the other one later.
    symlink(&other, pod.join("next")).unwrap();
    fs::rename(pod.join("next"), pod.join("0.log")).unwrap();
    expect(&world, agent, &["own"]);
}

fn an_agent_that_was_down_meanwhile_follows_no_link_either(mut world: World) {
    let (log, gone) = (
        world.path("pods/shop_ten_uid-t/main/0.log"),
        world.path("pods/shop_ten_uid-t/side/0.log"),
    );
    cri(&log, "own");
    cri(&gone, "own too");
    let agent = start(&mut world);
    world.wait_for(2);
    // Committed too.
    std::thread::sleep(SEEN);
    agent.kill();
    fs::remove_file(&log).unwrap();
    symlink(world.path("host/0.log"), &log).unwrap();
    fs::remove_dir_all(gone.parent().unwrap()).unwrap();
    symlink(world.path("host"), gone.parent().unwrap()).unwrap();
    let agent = world.start();
    expect(&world, agent, &["own", "own too"]);
}

fn nothing_is_followed_where_openat2_is_refused(mut world: World) {
    world.exclude = "hidden";
    prepare(&world);
    let (log, side) =
        (world.path("pods/shop_ten_uid-t/main/0.log"), world.path("pods/shop_ten_uid-t/side"));
    cri(&log, "own");
    cri(side.join("0.log"), "own too");
    let mut command = Command::new(env!("CARGO_BIN_EXE_everyline"));
    without_openat2(&mut command);
    let agent = world.start_by(command);
    world.wait_for(2);
    symlink(world.path("host/shadow"), world.path("plain/x.log")).unwrap();
    symlink(world.path("host/auth.log"), log.with_file_name("1.log")).unwrap();
    fs::rename(&side, world.path("former")).unwrap();
    symlink(world.path("host"), &side).unwrap();
    expect(&world, agent, &["own", "own too"]);
    assert!(world.log().contains("openat2"), "{}", world.log());
}

fn a_pipe_in_the_place_of_a_compressed_copy_holds_up_nobody(mut world: World) {
    let log = world.path("plain/a.log");
    append(&log, "one\n");
    let agent = start(&mut world);
    world.wait_for(1);
    let former = world.path("plain/a.log.1");
    fs::rename(&log, &former).unwrap();
    append(&log, "two\n");
    world.wait_for(2);
    // Until nobody holds it open any more.
    std::thread::sleep(SEEN * 10);
    for name in ["a.log.1.gz", "a.log.gz", "b.log", "b.log.gz"] {
        rustix::fs::mkfifoat(rustix::fs::CWD, world.path("plain").join(name), 0o600.into())
            .unwrap();
    }
    // Gone with what nobody read: whether a copy has it is looked for.
    append(&former, "three\n");
    fs::remove_file(&former).unwrap();
    std::thread::sleep(SEEN);
    // What was gone may have been read all the same, where it was noticed in time.
    let rescued = world.records().len();
    cri(world.path("pods/shop_honest_uid-honest/main/0.log"), "honest");
    world.wait_for(rescued + 1);
    assert_eq!(agent.stop(), Some(0));
    assert!(world.records().iter().any(|record| body(record) == "honest"), "{}", world.log());
}

fn a_file_with_another_name_is_refused_if_asked(mut world: World) {
    let root = world.dir.path().display().to_string();
    world.files = format!(
        "    - paths: ['{root}/plain/*.log']\n      max_links: 1\n    - paths: ['{root}/free/*.log']\n"
    );
    fs::create_dir(world.path("free")).unwrap();
    let agent = start(&mut world);
    append(world.path("plain/own.log"), "own\n");
    world.wait_for(1);
    fs::hard_link(world.path("host/shadow"), world.path("plain/x.log")).unwrap();
    append(world.path("other.txt"), "two names\n");
    fs::hard_link(world.path("other.txt"), world.path("free/y.log")).unwrap();
    // What is collected already goes on, whatever names it gets.
    fs::hard_link(world.path("plain/own.log"), world.path("elsewhere.txt")).unwrap();
    append(world.path("plain/own.log"), "own again\n");
    expect(&world, agent, &["own", "own again", "two names"]);
    assert!(world.log().contains("max_links"), "{}", world.log());
}

fn a_reload_changes_where_links_may_lead(mut world: World) {
    append(world.path("data/app.txt"), "elsewhere\n");
    append(world.path("plain/own.txt"), "own\n");
    symlink(world.path("data/app.txt"), world.path("plain/a.log")).unwrap();
    symlink("own.txt", world.path("plain/b.log")).unwrap();
    let agent = start(&mut world);
    world.wait_for(1);
    let files = world.files.clone();
    let links =
        |links: &str| files.replace("- paths", &format!("- follow_links: {links}\n      paths"));
    world.files = links("anywhere");
    world.write_config();
    world.wait_for(2);
    world.files = links("never");
    world.write_config();
    std::thread::sleep(SEEN * 2);
    foreign(world.path("data/app.txt"));
    foreign(world.path("plain/own.txt"));
    expect(&world, agent, &["own", "elsewhere"]);
}
