# The same program that `make build` makes. Run it with docker-compose.yml, or with your own PostgreSQL and NATS:
#   docker build -t tandem . && docker run -p 8080:8080 -e TANDEM_DATABASE_URL=... -e TANDEM_NATS_URL=... -v tandem:/data tandem
FROM node:22-bookworm-slim AS web
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web/ ./
RUN npm run build

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=web /src/web/dist web/dist
ARG VERSION=
RUN CGO_ENABLED=0 go build -ldflags "-s -w -X main.version=$VERSION" -o /tandem ./cmd/tandem

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
  && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin tandem \
  && install -d -o tandem -g tandem /data
COPY --from=build /tandem /usr/local/bin/tandem
COPY LICENSE /usr/share/doc/tandem/LICENSE
USER tandem
# Keys and files live here; the database and the bus are outside.
VOLUME /data
ENV TANDEM_DATA=/data TANDEM_HTTP=0.0.0.0:8080 TANDEM_LOG_FORMAT=json
EXPOSE 8080
ENTRYPOINT ["tandem"]
CMD ["serve"]
