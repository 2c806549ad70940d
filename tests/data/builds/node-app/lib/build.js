const fs = require("fs");
const { name, version } = JSON.parse(fs.readFileSync("package.json"));
fs.mkdirSync("dist", { recursive: true });
fs.writeFileSync("dist/app.js", `console.log(${JSON.stringify(`${name} ${version}`)});\n`);
