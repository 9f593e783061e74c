declare module 'swagger-ui-dist/swagger-ui-es-bundle.js' {
  /** Draws a description into a node. Only the options that we set. */
  export default function SwaggerUI(options: {
    domNode: Element
    spec: unknown
    deepLinking: boolean
    docExpansion: 'list' | 'full' | 'none'
    defaultModelsExpandDepth: number
    filter: boolean
    displayRequestDuration: boolean
    validatorUrl: null
    onComplete: () => void
  }): void
}
