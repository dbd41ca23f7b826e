// For trying out on one's own machine: the editor has no login, so it listens on loopback only.
module.exports = {
    uiHost: process.env.NODE_RED_HOST || '127.0.0.1',
    uiPort: Number(process.env.NODE_RED_PORT || 1880),
    flowFile: 'flows.json',
    flowFilePretty: true,
    credentialSecret: false, // the flow holds no secrets; logins come from the environment
    functionExternalModules: true, // kafkajs and lz4js in function nodes
    telemetry: { enabled: false },
    diagnostics: { enabled: false },
    editorTheme: { tours: false },
    logging: { console: { level: 'info', metrics: false, audit: false } },
};
