//! nginx: answers, is reloaded through `exec`, ends when asked.

use nix::sys::signal::Signal;

use crate::ground::Place;

const PORT: u16 = 8080;

fn settings(answer: &str) -> String {
    format!(
        "daemon off;\npid /tmp/nginx.pid;\nerror_log stderr;\nworker_processes 2;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
         access_log /srv/access.log;\n\
         client_body_temp_path /tmp/body;\nproxy_temp_path /tmp/proxy;\n\
         fastcgi_temp_path /tmp/fastcgi;\nuwsgi_temp_path /tmp/uwsgi;\nscgi_temp_path /tmp/scgi;\n\
         sendfile on; aio threads;\n\
         server {{ listen 127.0.0.1:{PORT}; root /srv/www; location = / {{ return 200 '{answer}'; }} }}\n\
         }}\n"
    )
}

pub(crate) fn work(place: &Place) -> Result<(), String> {
    let command = ["/usr/sbin/nginx", "-e", "stderr", "-c", "/srv/nginx.conf"];
    let launch = place
        .launch("nginx", &command)
        .file("nginx.conf", &settings("before"))
        .binding(PORT);
    let www = launch.data.join("www");
    std::fs::create_dir(&www).map_err(|error| error.to_string())?;
    std::fs::write(www.join("page"), "x".repeat(100_000)).map_err(|error| error.to_string())?;
    let running = launch.start();
    running.get_eventually(PORT, "before")?;
    let page = running.get(PORT, "/page")?;
    if !page.ends_with(&"x".repeat(100_000)) {
        return Err(format!("{} bytes", page.len()));
    }
    running.file("nginx.conf", &settings("after"));
    let mut reload = command.to_vec();
    reload.extend(["-s", "reload"]);
    running.exec(&reload)?;
    running.get_eventually(PORT, "after")?;
    running.stop(Signal::SIGQUIT).map(|_| ())
}
