# One image for every service, for nodes and for jobs: `mesh`, the libraries it needs, and a shell for tools of agents.
# The long build stage can be replaced by a folder with a built program: `docker buildx build --build-context
# build=FOLDER .`, where FOLDER/out/mesh is it. Behind a mirror of registries: `--secret id=npmrc,src=…` and
# `--secret id=cargo,src=…` are the configuration files of npm and cargo.
ARG NODE_IMAGE=node:24-bookworm-slim
ARG RUST_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

# The web UI, which the program embeds.
FROM ${NODE_IMAGE} AS ui
WORKDIR /src/services/gateway/ui
COPY services/gateway/ui/package.json services/gateway/ui/package-lock.json ./
RUN --mount=type=secret,id=npmrc,target=/root/.npmrc --mount=type=cache,target=/root/.npm \
    npm ci --no-audit --no-fund
COPY docs/reference/openapi.json /src/docs/reference/openapi.json
COPY services/gateway/ui ./
RUN npm run build

# The program. Crates and what was compiled of them stay in the builder's cache between two builds.
FROM ${RUST_IMAGE} AS build
WORKDIR /src
# One unit of code for each crate makes a smaller program; symbols would double it.
ENV CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
COPY . .
COPY --from=ui /src/services/gateway/ui/dist services/gateway/ui/dist
RUN --mount=type=secret,id=cargo,target=/usr/local/cargo/config.toml \
    --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package mesh --bin mesh \
    && install -D target/release/mesh /out/mesh

# The little that the program needs of a system, and a shell for the tools of agents: an image of Debian would be larger
# than the program.
FROM ${BASE_IMAGE} AS system
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static ca-certificates
COPY --from=build /out/mesh /usr/local/bin/mesh
RUN mkdir -p /system/bin /system/etc/ssl/certs /system/usr/bin /system/tmp \
    && ldd /usr/local/bin/mesh | grep -o '/[^ ]*' | xargs -I {} cp --dereference --parents {} /system \
    && cp /bin/busybox /system/bin/busybox \
    && for name in $(/bin/busybox --list); do ln -s busybox "/system/bin/$name"; done \
    && ln -s /bin/env /system/usr/bin/env \
    && cp --dereference /etc/ssl/certs/ca-certificates.crt /system/etc/ssl/certs/ \
    && printf 'hosts: files dns\n' >/system/etc/nsswitch.conf \
    && printf 'root:x:0:0:root:/:/bin/sh\nmesh:x:65532:65532:mesh:/var/lib/mesh:/bin/sh\n' >/system/etc/passwd \
    && printf 'root:x:0:\nmesh:x:65532:\n' >/system/etc/group \
    && chmod 1777 /system/tmp \
    && install -d -o 65532 -g 65532 -m 0700 /system/var/lib/mesh

FROM scratch
LABEL org.opencontainers.image.title="Agent Mesh" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=system /system /
COPY --from=build /out/mesh /usr/local/bin/mesh
# Where a node keeps who it is: a new volume that is mounted here belongs to its user. A node's page listens on every
# address of its container; what reaches it is what `--publish` says.
ENV PATH=/usr/local/bin:/usr/bin:/bin MESH_HOME=/var/lib/mesh MESH_NODE__LOCAL_HOST=0.0.0.0
WORKDIR /var/lib/mesh
USER 65532:65532
ENTRYPOINT ["mesh"]
CMD ["--help"]
