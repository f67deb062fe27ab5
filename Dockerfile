# The operator's image: one static binary, the system's certificate authorities, nothing else; no shell, no package manager.
#   docker build --tag keyferry .
# BASE may be any image without a shell, such as a distroless one; the binary needs nothing from it.
ARG RUST=rust:1.95-bookworm
ARG BASE=scratch

FROM ${RUST} AS build
WORKDIR /src
COPY . .
# glibc is linked in, by naming the target: without that the flag would also hit build scripts and procedural macros.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    set -eu; \
    target="$(rustc -vV | sed -n 's/^host: //p')"; \
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked -p keyferry --target "$target"; \
    mkdir -p /image/etc/ssl/certs; \
    cp "target/$target/release/keyferry" /image/keyferry; \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/; \
    echo "hosts: files dns" > /image/etc/nsswitch.conf

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="keyferry" \
      org.opencontainers.image.description="Kubernetes operator that brings secrets from their managers into namespaced Secrets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
COPY LICENSE /LICENSE
USER 65532:65532
EXPOSE 8080 8082
ENTRYPOINT ["/keyferry"]
CMD ["controller"]
