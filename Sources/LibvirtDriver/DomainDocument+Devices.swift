internal import GuestHardware
internal import XML

extension DomainDocument {
    /// The first port's output is the console log.
    var serialPorts: [XMLNode] {
        (0..<hardware.devices.serialPorts).map { port in
            let listener = settings.serialConsole.flatMap { console in
                listeningPorts.indices.contains(port) ? (console.address, listeningPorts[port]) : nil
            }
            return XMLNode("serial", ["type": listener == nil ? "pty" : "tcp"]) {
                if let (address, number) = listener {
                    XMLNode("source", ["mode": "bind", "host": address, "service": String(number)])
                    XMLNode("protocol", ["type": "raw"])
                }
                if port == 0 { XMLNode("log", ["file": folder.consoleLog, "append": "off"]) }
                XMLNode("target", ["port": String(port)])
            }
        }
    }

    /// libvirt chooses the host's end.
    var agentChannel: XMLNode? {
        guard hardware.system.hasAgent else { return nil }
        return XMLNode("channel", ["type": "unix"]) {
            XMLNode("target", ["type": "virtio", "name": "org.qemu.guest_agent.0"])
        }
    }

    var randomness: XMLNode? {
        hardware.devices.randomness.map { limit in
            XMLNode("rng", ["model": "virtio"]) {
                if let bytes = limit.bytes {
                    XMLNode(
                        "rate", ["bytes": String(bytes), "period": limit.periodMilliseconds.map(String.init)])
                }
                XMLNode("backend", ["model": "random"], text: settings.randomDevice)
            }
        }
    }

    var tpm: XMLNode? {
        hardware.devices.tpm.map { tpm in
            XMLNode("tpm", ["model": tpm.model.rawValue]) {
                XMLNode("backend", ["type": "emulator", "version": tpm.version.rawValue])
            }
        }
    }

    var watchdog: XMLNode? {
        guard hardware.devices.watchdog != .disabled else { return nil }
        return XMLNode("watchdog", ["model": "i6300esb", "action": hardware.devices.watchdog.rawValue])
    }

    var balloon: XMLNode {
        XMLNode("memballoon", ["model": settings.memoryStatisticsPeriod > 0 ? "virtio" : "none"]) {
            if settings.memoryStatisticsPeriod > 0 {
                XMLNode("stats", ["period": String(settings.memoryStatisticsPeriod)])
            }
        }
    }
}
