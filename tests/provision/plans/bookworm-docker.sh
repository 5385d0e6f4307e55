# Install Docker | Install what Docker's repository needs
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update -q
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends ca-certificates curl gpg

# Install Docker | Pin the key of Docker's repository
set -eu
install -d -m 755 /etc/apt/keyrings
curl -fsSL --max-time 60 -o /etc/apt/keyrings/docker.asc.half https://download.docker.com/linux/debian/gpg
found=$(gpg --batch --show-keys --with-colons /etc/apt/keyrings/docker.asc.half | awk -F: '$1 == "fpr" {print $10; exit}')
if [ "$found" != 9DC858229FC7DD38854AE2D88D81803C0EBFCD88 ]; then rm -f /etc/apt/keyrings/docker.asc.half; echo "https://download.docker.com/linux/debian/gpg is signed by $found, not by the pinned 9DC858229FC7DD38854AE2D88D81803C0EBFCD88: refused" >&2; exit 1; fi
chmod 644 /etc/apt/keyrings/docker.asc.half
mv -f /etc/apt/keyrings/docker.asc.half /etc/apt/keyrings/docker.asc

# Install Docker | Add Docker's repository
install -D -m 644 -o 0 -g 0 /dev/stdin /etc/apt/sources.list.d/docker.sources.half && mv -f /etc/apt/sources.list.d/docker.sources.half /etc/apt/sources.list.d/docker.sources

# Install Docker | Install Docker packages
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update -q
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin

# Install Docker | Start the Docker daemon
set -eu
systemctl enable --now docker.service || true
for second in $(seq 60); do
  if docker info >/dev/null 2>&1; then exit 0; fi
  sleep 1
done
journalctl --no-pager --unit docker.service --lines 20 >&2 || true
echo "The Docker daemon did not answer within 60 s; its last words are above. Mend what they say and deploy again." >&2
exit 1
set -eu
docker compose version >/dev/null || { echo 'Docker is there, but not compose: docker compose version says why.' >&2; exit 1; }
docker buildx version >/dev/null || { echo 'Docker is there, but not buildx: docker buildx version says why.' >&2; exit 1; }

# Build the image | Build the service image
rm -rf /opt/sesame-csm/build && install -d -m 700 /opt/sesame-csm/build/ca
FileUploadCommand(CONTEXT, /opt/sesame-csm/build/context.tar.gz)
set -eu
trap 'rm -rf /opt/sesame-csm/build' EXIT
cd /opt/sesame-csm/build
tar -xzf context.tar.gz
touch ca/.keep pip.conf
find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} ca/ \; || true
for file in ~/.pip/pip.conf ~/.config/pip/pip.conf /etc/pip.conf; do if [ -r $file ]; then cp $file pip.conf; fi; done
chmod 600 pip.conf
DOCKER_BUILDKIT=1 docker build --progress plain --file service/Dockerfile --build-arg BASE_IMAGE=debian:trixie-slim --secret id=pip_conf,src=pip.conf --tag sesame-csm:TAG . > build.log 2>&1 || { tail -n 40 build.log >&2; echo "The image could not be built; the last lines of the build are above." >&2; exit 1; }

# Start the service | Render the release
set -eu
rm -rf /opt/sesame-csm/.next
install -d -m 755 /opt/sesame-csm
install -d -m 711 /opt/sesame-csm/.next /opt/sesame-csm/.next/secrets
install -D -m 644 -o 0 -g 0 /dev/stdin /opt/sesame-csm/.next/docker-compose.sesame-offline.yml.half && mv -f /opt/sesame-csm/.next/docker-compose.sesame-offline.yml.half /opt/sesame-csm/.next/docker-compose.sesame-offline.yml
install -D -m 644 -o 0 -g 0 /dev/stdin /opt/sesame-csm/.next/service.env.half && mv -f /opt/sesame-csm/.next/service.env.half /opt/sesame-csm/.next/service.env
install -D -m 600 -o 0 -g 0 /dev/stdin /opt/sesame-csm/.next/maya.env.half && mv -f /opt/sesame-csm/.next/maya.env.half /opt/sesame-csm/.next/maya.env
set -eu
docker compose --file /opt/sesame-csm/.next/docker-compose.sesame-offline.yml run --rm --no-deps --no-TTY sesame-csm python -m service --check-settings > /opt/sesame-csm/.next/answer 2>&1 || { cat /opt/sesame-csm/.next/answer >&2; rm -rf /opt/sesame-csm/.next; echo "The service refuses these settings; nothing was switched over." >&2; exit 1; }
set -eu
rm -rf /opt/sesame-csm/.previous
install -d -m 755 /opt/sesame-csm/.previous
install -d -m 711 /opt/sesame-csm/.previous/secrets /opt/sesame-csm/secrets
if [ -f /opt/sesame-csm/docker-compose.sesame-offline.yml ]; then cp -p /opt/sesame-csm/docker-compose.sesame-offline.yml /opt/sesame-csm/.previous/docker-compose.sesame-offline.yml; fi
if [ -f /opt/sesame-csm/service.env ]; then cp -p /opt/sesame-csm/service.env /opt/sesame-csm/.previous/service.env; fi
if [ -f /opt/sesame-csm/maya.env ]; then cp -p /opt/sesame-csm/maya.env /opt/sesame-csm/.previous/maya.env; fi
if [ -f /opt/sesame-csm/secrets/SESAME_SERVER_KEY ]; then cp -p /opt/sesame-csm/secrets/SESAME_SERVER_KEY /opt/sesame-csm/.previous/secrets/SESAME_SERVER_KEY; fi
mv -f /opt/sesame-csm/.next/docker-compose.sesame-offline.yml /opt/sesame-csm/docker-compose.sesame-offline.yml
mv -f /opt/sesame-csm/.next/service.env /opt/sesame-csm/service.env
mv -f /opt/sesame-csm/.next/maya.env /opt/sesame-csm/maya.env
rm -f /opt/sesame-csm/secrets/SESAME_SERVER_KEY
rm -rf /opt/sesame-csm/.next

# Start the service | Start the release
set -eu
if docker compose --project-directory /opt/sesame-csm --file /opt/sesame-csm/docker-compose.sesame-offline.yml up --detach --remove-orphans --wait --wait-timeout 180 > /opt/sesame-csm/.start 2>&1; then rm -rf /opt/sesame-csm/.start /opt/sesame-csm/.previous; exit 0; fi
cat /opt/sesame-csm/.start >&2
echo "--- last words of the service ---" >&2
docker logs --tail 30 sesame-csm-offline >&2 2>&1 || true
echo "--- last health checks ---" >&2
docker inspect --format '{{if .State.Health}}{{range .State.Health.Log}}{{.Output}}{{end}}{{end}}' sesame-csm-offline >&2 || true
echo "The service did not become healthy within 180 s. Mend what its last words say and deploy again, or give it longer: start_timeout_seconds." >&2
if [ -f /opt/sesame-csm/.previous/docker-compose.sesame-offline.yml ]; then
  rm -f /opt/sesame-csm/docker-compose.sesame-offline.yml /opt/sesame-csm/service.env /opt/sesame-csm/maya.env /opt/sesame-csm/secrets/SESAME_SERVER_KEY
  cp -pR /opt/sesame-csm/.previous/. /opt/sesame-csm/
  if docker compose --project-directory /opt/sesame-csm --file /opt/sesame-csm/docker-compose.sesame-offline.yml up --detach --remove-orphans --wait --wait-timeout 180 > /opt/sesame-csm/.start 2>&1; then
    echo "Rolled back: the release that ran before speaks again." >&2
  else
    cat /opt/sesame-csm/.start >&2
    echo "Rolled back, but the release that ran before does not start either." >&2
  fi
fi
rm -rf /opt/sesame-csm/.start /opt/sesame-csm/.previous
exit 1

# Verify the voice | Verify the voice: no changes
