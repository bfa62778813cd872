#!/usr/bin/env bash
# Installs the RabbitMQ of Debian 13 into a directory of its own, for machines whose own is older than version 4:
#   sudo tests/fetch_rabbitmq.sh /opt/rabbitmq4 && sudo RABBITMQ_ROOT=/opt/rabbitmq4 pytest tests/monitor/broker
set -euo pipefail
root="${1:?name the directory}"
command -v debootstrap >/dev/null || apt-get install -qq -y debootstrap
debootstrap --variant=minbase --include=rabbitmq-server trixie "$root"
